"""The consumer: a question in, text out, every byte of it verified, by names alone.

Owns: the path of a prompt on the asking side: resolve the alias, retrieve, tokenize, generate, and the ledger of names
it all rests on. Must not know: torch, tokenizers, how anything is computed; it needs a forwarder and a trust anchor.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.config import Config
from ndn_infer.errors import BadRecord, CallError, NetworkError, PromptError, UnknownModel, UsageError
from ndn_infer.namespace import CatalogRecord, Passage
from ndn_infer.ndn.name import Name
from ndn_infer.records import (
    TOO_LONG,
    CorpusRecord,
    GenerateRequest,
    Hits,
    LookupRequest,
    Message,
    ModelRecord,
    PassageRecord,
    Sampling,
    TokenEvent,
    TokenizeRequest,
    Tokens,
)
from ndn_infer.records.bounds import MAX_TEXT
from ndn_infer.security.access import Access
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.calls.inputs import Inputs
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.ledger import RECOMPUTED, Ledger
from ndn_infer.transport.objects.serve import Server
from ndn_infer.transport.objects.stream_pull import OnProgress

log = logging.getLogger(__name__)

INPUT_STORE_BYTES: Final = 64 << 20
_SHORTEN: Final = "shorten the prompt, or choose a model with a longer context"


@dataclass(frozen=True, slots=True)
class Cited:
    """A passage that the prompt contains: its object name, score, and who signed it."""

    name: str
    score: float
    passage: PassageRecord
    signed_by: Validated


@dataclass(slots=True)
class Timing:
    """Seconds of one question, from its start. `decode_s` is from the first to the last token."""

    started: float
    first_token_s: float = 0.0
    total_s: float = 0.0

    def tokens_per_s(self, tokens: int) -> float:
        decode_s = self.total_s - self.first_token_s
        return (tokens - 1) / decode_s if tokens > 1 and decode_s > 0 else 0.0


@dataclass(slots=True)
class Outcome:
    """What is known after an answer: text and ids so far, why it ended, where KV came from, what it rests on."""

    model: ModelRecord
    prompt_ids: tuple[int, ...]
    text: str = ""
    ids: list[int] = field(default_factory=list)
    finish: str = ""
    last: TokenEvent | None = None
    stream_name: str = ""
    continued: int = 0
    """How often the answer broke off and went on elsewhere."""
    cited: tuple[Cited, ...] = ()
    timing: Timing = field(default_factory=lambda: Timing(time.monotonic()))
    asked_us: int = field(default_factory=lambda: time.time_ns() // 1000)
    """When, in microseconds of the Unix epoch."""

    @property
    def stored(self) -> bool:
        """Whether the answer was there, or in the making, before this was asked: its stream's version is that old."""
        for component in reversed(ndn.components(ndn.from_uri(self.stream_name)) if self.stream_name else ()):
            if ndn.component_type(component) == ndn.VERSION:
                return ndn.component_number(component, ndn.VERSION) < self.asked_us
        return False


class Client:
    """Asks a network. One endpoint, one validator, one ledger; reusable for many questions."""

    def __init__(
        self,
        endpoint: Endpoint,
        validator: Validator,
        net: Name,
        config: Config,
        *,
        user: Signer | None = None,
        certificates: tuple[Certificate, ...] = (),
        access: Access | None = None,
        domain: str = PUBLIC.label,
    ) -> None:
        """`user` is the caller's own key, `certificates` vouch for it: needed to publish inputs that do not fit an
        Interest, and for private calls, with `access`. With the label of a tenant domain as `domain` every prompt is
        asked privately."""
        self.ledger = Ledger(net)
        self.fetcher = Fetcher(endpoint, validator, config.fetch, ledger=self.ledger)
        self._caller = Caller(
            endpoint, validator, self.fetcher, net, config=config.call, fetch=config.fetch, ledger=self.ledger,
            inputs=self._make_inputs, access=access,
        )  # fmt: skip
        self.domain = domain
        self._endpoint = endpoint
        self._net = net
        self._config = config
        self._user = user
        self._certificates = certificates
        self._inputs: Inputs | None = None
        self._registrar: Registrar | None = None
        self._turn: tuple[tuple[int, ...], tuple[str, ...]] = ((), ())
        """The newest conversation: its ids so far, and who holds their KV."""

    @property
    def caller(self) -> Caller:
        return self._caller

    async def close(self) -> None:
        if self._registrar is not None:
            await self._registrar.close()

    # ------------------------------------------------------------ catalogue

    async def resolve_model(self, alias: str) -> ModelRecord:
        """What the operator signed for this alias or digest, no older than what was seen before. Raises UnknownModel,
        NetworkError, TrustError; StaleVersion among these, when nothing but a replaced record can be had."""
        record = await self._resolve("model", alias, ModelRecord)
        return record

    async def resolve_corpus(self, alias: str) -> CorpusRecord:
        return await self._resolve("corpus", alias, CorpusRecord)

    async def _resolve(self, kind: str, alias: str, cls: type[records.R]) -> records.R:
        label = alias.replace("/", "--")
        base = CatalogRecord(kind, label).to_name(self._net)
        try:
            fetched = await self.fetcher.fetch(base)
        except NetworkError as error:
            hint = "'ndn-infer status' shows what this network offers; start a producer with 'ndn-infer produce'"
            raise UnknownModel(f"no {kind} called {alias!r} is offered in this network", hint=hint) from error
        return records.decode(cls, fetched.content)

    # ------------------------------------------------------------ steps

    async def tokenize(self, model: ModelRecord, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of a conversation, through the model's chat template."""
        if not any(message.content.strip() for message in messages if message.role == "user"):
            raise PromptError("the prompt is empty", hint="give a prompt, or '-' to read it from standard input")
        size = sum(len(message.content) for message in messages)
        if size > MAX_TEXT:
            raise PromptError(
                f"the prompt has {size} characters, and {MAX_TEXT} are the most", hint="shorten the prompt"
            )
        today = date.today().isoformat() if model.dated else ""
        request = TokenizeRequest(messages=tuple(messages), today=today)
        try:
            tokens = await self._caller.call(
                ("model", model.digest), "tokenize", request, Tokens, domain=self.domain
            )  # fmt: skip
        except CallError as error:
            if error.code != TOO_LONG:
                raise
            raise PromptError(str(error), hint=_SHORTEN) from error
        return tokens.ids

    async def lookup(self, corpus: CorpusRecord, query: str, limit: int) -> tuple[Cited, ...]:
        """The passages nearest to `query`, each fetched by name, verified and compared with the digest in its name; one
        that is another text under that name is asked for at the producer that answered. Raises UsageError in a tenant
        domain (corpora are public, and so would the question be), BadRecord for a hit that is no passage of `corpus`.
        """
        if self.domain != PUBLIC.label:
            raise UsageError("a corpus is asked in the public domain, where others can read the question")
        producers: dict[Name, None] = {}
        hits = await self._caller.call(
            ("corpus", corpus.digest), "lookup", LookupRequest(query, limit), Hits,
            on_answer=lambda answered: producers.update({answered.signed_by.identity: None}),
        )  # fmt: skip
        cited = []
        for hit in hits.hits[:limit]:
            named = Passage.parse(self._net, base := ndn.from_uri(hit.name))
            if named is None or named.corpus != corpus.digest:
                raise BadRecord(f"lookup answered with {hit.name[:200]!r}, no passage of corpus {corpus.alias}")
            fetched = await self.fetcher.fetch(base, elsewhere=tuple(reversed(producers)))
            passage = records.decode(PassageRecord, fetched.content)
            cited.append(Cited(hit.name, hit.score, passage, fetched.signed_by))
        return tuple(cited)

    async def generate(
        self, model: ModelRecord, prompt: tuple[int, ...], sampling: Sampling, outcome: Outcome,
        *, at: tuple[Name, ...] = (), on_progress: OnProgress | None = None,
    ) -> AsyncGenerator[TokenEvent]:  # fmt: skip
        """Stream the answer's events; `outcome` is kept up to date. A prompt that continues the last conversation tells
        its producer who holds the KV of that. `at`, `on_progress`: as in Caller.stream.

        When a stream is lost, its producer gone, the answer goes on where it broke off, at whoever answers then:
        randomness is by seed and position, so the tokens are those it would have had (but where KV differs in the last
        bits: docs/engine.md). Raises PromptError for too long a prompt, and what Caller.stream raises.
        """
        if len(prompt) >= model.context_tokens:
            raise PromptError(
                f"the prompt has {len(prompt)} tokens; {model.alias} takes {model.context_tokens} with the answer",
                hint=_SHORTEN,
            )
        before, holders = self._turn
        kv = holders if len(before) < len(prompt) and before == prompt[: len(before)] else ()
        while True:
            request = self._request(sampling, prompt, outcome)
            events = self._caller.stream(
                ("model", model.digest), "generate", request, TokenEvent, advice=kv, at=at, domain=self.domain,
                on_progress=on_progress,
            )  # fmt: skip
            known = len(outcome.ids)
            try:
                async with aclosing(events):  # a reader that stops leaves no Interest behind
                    async for event, answered in events:
                        outcome.stream_name = answered.answer.result
                        self._take(event, outcome)
                        if event.finish:
                            self._turn = (prompt, event.kv_holders)
                        yield event
            except NetworkError as error:
                if len(outcome.ids) == known or outcome.finish:
                    raise
                log.warning("an answer broke off after %d tokens; it goes on elsewhere: %s", len(outcome.ids), error)
                outcome.continued += 1
            else:
                return

    def _request(self, sampling: Sampling, prompt: tuple[int, ...], outcome: Outcome) -> GenerateRequest:
        """What is to be asked now, after the tokens that there are."""
        made = tuple(outcome.ids)
        left = replace(sampling, max_tokens=sampling.max_tokens - len(made))
        return GenerateRequest(
            left, prompt=prompt + made, dtype=self._config.engine.dtype, answered=len(made)
        )  # fmt: skip

    def _take(self, event: TokenEvent, outcome: Outcome) -> None:
        elapsed = time.monotonic() - outcome.timing.started
        if event.ids and not outcome.ids:
            outcome.timing.first_token_s = elapsed
        outcome.timing.total_s = elapsed
        outcome.ids.extend(event.ids)
        outcome.text += event.text
        outcome.last = event
        if event.finish == "error":
            raise CallError(f"generation failed: {event.error}", code="failed")
        outcome.finish = event.finish or outcome.finish
        if event.finish and event.kv is not None and not outcome.stored:
            self._enter_kv(event)

    def _enter_kv(self, event: TokenEvent) -> None:
        """The decode producer's signed word on where KV came from."""
        kv = event.kv
        assert kv is not None
        examples = iter(event.kv_names)  # which of them came from where is not said: no example for two sources
        elsewhere = kv.named - kv.content_store
        rows = (
            ("Content Store of the decode node", kv.content_store),
            ("its producer", elsewhere),
            ("decode node's memory", kv.local),
            ("prefill, computed for this prompt", kv.prefilled),
            (RECOMPUTED, kv.recomputed),
        )
        for source, count in rows:
            if count:
                self.ledger.add("KV block", next(examples, ""), source, None, count=count)
                examples = iter(())

    def _make_inputs(self) -> Inputs | None:
        """Where requests too large for an Interest are published: below our own identity, if we have a key."""
        if self._inputs is None and self._user is not None:
            server = Server(self._endpoint, ObjectStore(INPUT_STORE_BYTES))
            self._registrar = Registrar(self._endpoint, self._user)
            self._inputs = Inputs(
                self._net, server, self._user, registrar=self._registrar, certificates=lambda: self._certificates
            )
        return self._inputs


def rag_prompt(question: str, cited: Sequence[Cited]) -> str:
    """The user message that puts retrieved passages before the question."""
    passages = "\n\n".join(f"[{number}] {item.passage.text}" for number, item in enumerate(cited, 1))
    return (
        "Answer the question from these passages, briefly, and name the passage that holds the answer by its number, "
        "like [1]. If they do not hold the answer, say so.\n\n"
        f"{passages}\n\nQuestion: {question}"
    )
