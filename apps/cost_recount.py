"""cost --recount: the tokens of one answer, counted again from named objects and by `tokenizers` alone.

Owns: which objects say how many tokens there were, and what they have to agree in. Must not know: prices, sums.

The request (its SHA-256 is in the stream's name) has the prompt's ids; the stream's segments have the answer's ids, its
text and the receipt. The model's tokenizer.json turns ids to text and text to ids without any of our own code.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ndn_infer import clock
from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.errors import BadRecord, EngineUnavailable, FetchIncomplete
from ndn_infer.evidence.answers import JudgedAnswer, StreamName, judge_answer, judge_request
from ndn_infer.evidence.bundle import BundleNote
from ndn_infer.evidence.judge import Judge, Trust
from ndn_infer.evidence.live.collect import Collector
from ndn_infer.local.prepare import prepared
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node, trust_schema
from ndn_infer.records import GenerateRequest
from ndn_infer.records.receipt import Receipt
from ndn_infer.security.domain_store import DomainStore
from ndn_infer.security.domains import find_epoch


@dataclass(frozen=True, slots=True)
class Recount:
    """`prompt` and `output`: tokens by the receipt, by the named object, and by tokenizers: its own encoding of the
    ids' text, where that gives these ids again, else how many of the ids it knows. `text_agrees`: the text of the
    stream is that of its ids."""

    stream: str
    prompt: tuple[int, int, int]
    output: tuple[int, int, int]
    text_agrees: bool
    receipt: Receipt

    @property
    def agrees(self) -> bool:
        return len(set(self.prompt)) == 1 and len(set(self.output)) == 1 and self.text_agrees

    def as_json(self) -> dict[str, Any]:
        names = ("receipt", "named", "tokenizers")
        return {
            "stream": self.stream, "prompt_tokens": dict(zip(names, self.prompt, strict=True)),
            "output_tokens": dict(zip(names, self.output, strict=True)), "text_agrees": self.text_agrees,
            "agrees": self.agrees, "receipt": asdict(self.receipt),
        }  # fmt: skip

    def lines(self) -> list[str]:
        rows = (("prompt tokens", self.prompt), ("output tokens", self.output))
        return [
            self.stream,
            *(f"  {what}: receipt {one[0]}, named object {one[1]}, tokenizers {one[2]}" for what, one in rows),
            f"  the text of the stream is {'' if self.text_agrees else 'not '}that of its ids",
            f"  {'all agree' if self.agrees else 'they do not agree'}",
        ]


async def recount(config: Config, uri: str) -> Recount:
    """Raises BadName, UsageError, FetchIncomplete where an object is gone, BadRecord for an answer without a receipt,
    EngineUnavailable without tokenizers, UnknownModel where the model is not here."""
    keychain = ensure_keys(config)
    async with await Node.join(config, keychain) as node, Client(node) as client:
        stream = StreamName.of(node.net, uri)
        collector = Collector.of(node, client.conversation().caller, BundleNote(uri))
        await collector.object(stream.base, stream.version)
        await collector.object(stream.result.asked().to_name(node.net))
        await collector.certificates()
        trust = Trust(
            trust_schema(config),
            keychain.anchor,
            clock.wall_s(),
            partial(find_epoch, DomainStore(config.keys_dir).tenants()),
        )
        judge = Judge(collector.bundle, trust)
        request = await judge_request(judge, stream, b"")
        answer = await judge_answer(judge, stream, request.domain)
    if request.said is None or not answer.finding.good:
        finding = request.finding if request.said is None else answer.finding
        raise FetchIncomplete(f"{uri} cannot be counted again: {finding.why}")
    folder = await asyncio.to_thread(prepared, config, stream.result.subject, quiet=True)
    return await asyncio.to_thread(_counted, uri, request.said, answer, folder.path)


def _counted(uri: str, request: GenerateRequest, answer: JudgedAnswer, folder: Path) -> Recount:
    receipt = answer.last.receipt if answer.last is not None else None
    if receipt is None:
        raise BadRecord(f"{uri} has no receipt")
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EngineUnavailable("a recount needs tokenizers", hint="pip install 'ndn-infer[engine]'") from error
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompt, made = request.prompt, answer.ids
    text = tokenizer.decode(list(made), skip_special_tokens=True)
    return Recount(
        uri, (receipt.prompt.total, len(prompt), _again(tokenizer, prompt)),
        (receipt.output_tokens, len(made), _again(tokenizer, made)),
        text.startswith(answer.text) or answer.text == text, receipt,
    )  # fmt: skip


def _again(tokenizer: Any, ids: tuple[int, ...]) -> int:
    """How many tokens the text of these ids has: by encoding it, where that is the encoding that was used."""
    encoded = tokenizer.encode(tokenizer.decode(list(ids), skip_special_tokens=False), add_special_tokens=False).ids
    return len(encoded) if encoded == list(ids) else sum(bool(tokenizer.id_to_token(one)) for one in ids)
