"""tokenize and detokenize: text to token ids and back, as the model's own tokenizer does it.

Owns: both functions and the publishing of token blocks. Must not know: torch; a tokenizer is enough, so this producer
runs where no model fits.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ndn_infer import records
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.errors import PromptError
from ndn_infer.functions.base import Host, Job, NamedFunction, Q
from ndn_infer.name import Name
from ndn_infer.namespace import TokenBlock, blocks_prefix
from ndn_infer.records import DetokenizeRequest, Record, Text, TokenBlockRecord, TokenizeRequest, Tokens
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import Domain
from ndn_infer.transport.serve import Server


def publish_token_blocks(
    server: Server, net: Name, model: str, ids: tuple[int, ...], block: int, signer: Signer, domain: Domain
) -> None:  # fmt: skip
    """Publish every full block of `ids` that is not in the store yet; the names chain (chain.py)."""
    parent = domain.chain_seed(block)
    for number, value in enumerate(domain.chain_values(ids, block)):
        base = TokenBlock(model, domain.label, value.hex()).to_name(net)
        if base not in server.store:
            record = TokenBlockRecord(parent.hex(), ids[number * block : (number + 1) * block])
            server.publish(base, domain.seal(base, records.encode(record)), signer)
        parent = value


class _OfTokenizer(NamedFunction[Q]):
    """A function that needs one model's tokenizer."""

    role = "tokenize"
    private = True

    def __init__(self, model: str, folder: Path) -> None:
        self.subject = ("model", model)
        self._folder = folder
        self._tokenizer: ChatTokenizer | None = None

    async def start(self, host: Host, signer: Signer) -> None:
        self._tokenizer = await asyncio.to_thread(ChatTokenizer.load, self._folder)


class Tokenize(_OfTokenizer[TokenizeRequest]):
    function = "tokenize"
    request_type = TokenizeRequest

    def serves(self, net: Name) -> tuple[Name, ...]:
        return (blocks_prefix(net, self.subject[1], "tokens"),)

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        assert self._tokenizer is not None
        if request.messages:
            messages = [{"role": message.role, "content": message.content} for message in request.messages]
            ids = tuple(await asyncio.to_thread(self._tokenizer.apply_chat, messages))
        elif request.text:
            ids = tuple(await asyncio.to_thread(self._tokenizer.encode, request.text))
        else:
            raise PromptError("nothing to tokenize: the prompt is empty")
        block = job.host.config.engine.block_tokens
        publish_token_blocks(job.host.server, job.host.net, self.subject[1], ids, block, job.signer, job.domain)
        job.host.counters["tokens_out"] += len(ids)
        return Tokens(ids)


class Detokenize(_OfTokenizer[DetokenizeRequest]):
    function = "detokenize"
    request_type = DetokenizeRequest

    async def run(self, request: DetokenizeRequest, job: Job) -> Record:
        assert self._tokenizer is not None
        try:
            return Text(self._tokenizer.decode(request.ids))
        except (OverflowError, ValueError) as error:
            raise PromptError(f"not token ids of this model: {error}") from error
