"""tokenize and detokenize: text to token ids and back, as the model's own tokenizer does it.

Owns: both functions. Must not know: torch; a tokenizer is enough, so this producer runs where no model fits.
"""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

from ndn_infer.engine.model_config import ModelConfig
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.errors import BadRecord, CallError, PromptError
from ndn_infer.functions.base import Host, Job, NamedFunction, Q
from ndn_infer.kv.token_blocks import TokenChain, publish_token_blocks
from ndn_infer.namespace import blocks_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import TOO_LONG, Message, Record, TokenizeRequest, Tokens
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.records.tools import Tool, ToolCall, object_of
from ndn_infer.security.crypto import Signer


class _OfTokenizer(NamedFunction[Q]):
    """A function that needs one model's tokenizer."""

    role = "tokenize"
    private = True
    unit_s = 1e-6

    def __init__(self, model: str, folder: Path) -> None:
        self.subject = ("model", model)
        self._folder = folder
        self._tokenizer: ChatTokenizer | None = None
        self._context_tokens = 0

    async def start(self, host: Host, signer: Signer) -> None:
        self._tokenizer = await asyncio.to_thread(ChatTokenizer.load, self._folder)
        self._context_tokens = (await asyncio.to_thread(ModelConfig.load, self._folder)).context_length
        self.take_at_most(4 * self._tokenizer.most_characters(self._context_tokens))

    def _check_tokens(self, count: int) -> None:
        if count > self._context_tokens:
            text = f"the prompt has {count} tokens, this model takes {self._context_tokens}"
            raise CallError(text, code=TOO_LONG)


class Tokenize(_OfTokenizer[TokenizeRequest]):
    function = "tokenize"
    request_type = TokenizeRequest

    def serves(self, net: Name) -> tuple[Name, ...]:
        return (blocks_prefix(net, self.subject[1], "tokens"),)

    def units(self, request: TokenizeRequest) -> float:
        """Characters, and as many again for what any call takes."""
        return 1000 + request.characters

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        self._check(request)
        ids = await asyncio.to_thread(self._ids, request)
        self._check_tokens(len(ids))
        block = job.host.config.engine.block_tokens
        chain = TokenChain(self.subject[1], block, job.domain)
        await publish_token_blocks(job.host.server, job.host.net, chain, ids, job.signer)
        job.host.counters["tokens_out"] += len(ids)
        return Tokens(ids)

    def _check(self, request: TokenizeRequest) -> None:
        """Before any of it is looked at: what is longer than a context of the longest tokens cannot fit."""
        assert self._tokenizer is not None
        if not request.messages and not request.text:
            raise PromptError("nothing to tokenize: the prompt is empty")
        characters = request.characters
        most = self._tokenizer.most_characters(self._context_tokens)
        if characters > most:
            text = f"the prompt has {characters} characters; {self._context_tokens} tokens, the context, have "
            raise CallError(f"{text}{most} at most", code=TOO_LONG)

    def _ids(self, request: TokenizeRequest) -> tuple[int, ...]:
        assert self._tokenizer is not None
        if not request.messages:
            return tuple(self._tokenizer.encode(request.text, special=not request.bare))
        try:
            today = date.fromisoformat(request.today) if request.today else None
        except ValueError as error:
            raise PromptError(f"{request.today} is not a date like 2026-12-31") from error
        messages, tools = map(_spoken_message, request.messages), map(_spoken_tool, request.tools)
        return tuple(self._tokenizer.apply_chat(list(messages), not request.closed, today, list(tools)))


def _spoken_message(message: Message) -> dict[str, Any]:
    """As chat templates get it. Raises PromptError."""
    spoken: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        spoken["tool_calls"] = list(map(_spoken_call, message.tool_calls))
    if message.tool_call_id:
        spoken["tool_call_id"] = message.tool_call_id
    return spoken


def _spoken_call(call: ToolCall) -> dict[str, Any]:
    arguments = _object(call.arguments, f"the arguments of a call of {call.name}")
    return {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments}}


def _spoken_tool(tool: Tool) -> dict[str, Any]:
    """A function of which nothing is said takes nothing."""
    parameters = tool.parameters or '{"type": "object", "properties": {}}'
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = _object(parameters, f"the parameters of the tool {tool.name}")
    return {"type": "function", "function": function}


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        return object_of(text)
    except BadRecord as error:
        raise PromptError(f"{what} are {error}") from error


class Detokenize(_OfTokenizer[DetokenizeRequest]):
    function = "detokenize"
    request_type = DetokenizeRequest

    def units(self, request: DetokenizeRequest) -> float:
        """Tokens, and something for what any call takes."""
        return 1000 + len(request.ids) * (1 + request.pieces)

    async def run(self, request: DetokenizeRequest, job: Job) -> Record:
        assert self._tokenizer is not None
        self._check_tokens(len(request.ids))
        return await asyncio.to_thread(self._text, self._tokenizer, request)

    @staticmethod
    def _text(tokenizer: ChatTokenizer, request: DetokenizeRequest) -> Text:
        pieces = tuple(map(tokenizer.token_bytes, request.ids)) if request.pieces else ()
        return Text(tokenizer.decode(request.ids, not request.special), pieces)
