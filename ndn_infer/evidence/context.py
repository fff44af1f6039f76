"""Context records: what a client sent, in its own signed words, and which part of the prompt each passage became.

Owns: the predicate of urn:ndn-infer:context:1. Must not know: who signs it, how spans are found (spans.py), packets.

The subjects of the statement are the prompt (the digest of its ids) and the requests to generate, where they are known
(the RequestObject of each stream of the answer). The predicate has

    template    {"model": digest, "day": "2026-11-26" or ""}      what turned messages into a text
    asked       {"messages": [...], "tools": [...], "text": ""}   the request to tokenize, field by field
    prompt      {"tokens": n, "blockTokens": 16, "chain": [...]}  the prompt: chain values of its full token blocks
    resolvedDependencies: the request to tokenize with its digest, the model's record, those of corpora, each passage
                with the digest of its record, where it stands in a message ("message", "characters": [first, end]) and
                the "span": [first, end] of prompt ids it became, or "why" none can be established
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence import statement
from ndn_infer.evidence.plain_json import Json
from ndn_infer.evidence.statement import CONTEXT, INPUTS, Resource, Statement, plain
from ndn_infer.records import ROLES, Message, TokenizeRequest
from ndn_infer.records.bounds import MAX_HITS, MAX_IDS
from ndn_infer.records.tools import MAX_TOOLS, Tool, ToolCall

MAX_CONTEXT: Final = 8 << 20
"""Bytes of a context record. One of a long conversation is larger than other claims."""
MAX_BLOCKS: Final = MAX_IDS
MAX_STREAMS: Final = 64

PROMPT: Final = "prompt"
PASSAGE: Final = "passage"
TOKENIZE: Final = "tokenize-request"
MODEL: Final = "model"
CORPUS: Final = "corpus"
REQUEST: Final = "request"


@dataclass(frozen=True, slots=True)
class PassageUse:
    """A passage in a prompt. `characters` are where it stands in the content of message number `message`; `span` the
    ids of the prompt that it became, first and end, and `why` there is none."""

    uri: str
    sha256: str
    message: int
    characters: tuple[int, int]
    span: tuple[int, int] | None = None
    why: str = ""

    def resource(self) -> Resource:
        said: dict[str, Json] = {"message": self.message, "characters": list(self.characters)}
        said |= {"span": list(self.span)} if self.span is not None else {"why": self.why}
        return Resource(self.uri, self.sha256, PASSAGE, said)

    @classmethod
    def of(cls, resource: Resource) -> PassageUse:
        """Raises BadRecord."""
        said = resource.annotations
        span = _pair(said["span"], MAX_IDS) if "span" in said else None
        why = said.get("why", "")
        if type(why) is not str or len(why) > 512 or (span is None) == (not why):
            raise BadRecord("a passage has a span, or a reason why it has none")
        characters = _pair(said.get("characters"), 1 << 21)
        message = _count(said.get("message"), 1 << 16)
        return cls(resource.uri, resource.sha256, message, characters, span, why)


@dataclass(frozen=True, slots=True)
class Context:
    """What a context record says. `sha256`: of the prompt's ids (answer.ids_digest), in hex; `requests`: the requests
    to generate; `asked`: the request to tokenize; `chain`: values (hex) of the prompt's full token blocks of
    `block_tokens` ids."""

    sha256: str
    requests: tuple[Resource, ...]
    model: str
    asked: TokenizeRequest
    tokenize: Resource
    catalogue: Resource
    tokens: int
    block_tokens: int
    chain: tuple[str, ...] = ()
    passages: tuple[PassageUse, ...] = field(default=())
    corpora: tuple[Resource, ...] = field(default=())
    """The operator's records of the corpora that the passages are of, where there are any."""

    def statement(self) -> Statement:
        asked = self.asked
        predicate: dict[str, Json] = {
            "template": {"model": self.model, "day": asked.today},
            "asked": {
                "messages": [_message(message) for message in asked.messages],
                "tools": [_tool(tool) for tool in asked.tools],
                "text": asked.text,
                "bare": asked.bare,
                "closed": asked.closed,
            },
            "prompt": {"tokens": self.tokens, "blockTokens": self.block_tokens, "chain": list(self.chain)},
            INPUTS: plain((self.tokenize, self.catalogue, *self.corpora, *(use.resource() for use in self.passages))),
        }
        prompt = Resource(self.tokenize.uri, self.sha256, PROMPT)
        return Statement((prompt, *self.requests), CONTEXT, predicate)

    @classmethod
    def of(cls, said: Statement) -> Context:
        """What a statement says, which its signer vouches for. Raises BadRecord for anything else than the one form
        that `statement` gives it."""
        context = cls._read(said)
        if statement.encode(context.statement()) != statement.encode(said):
            raise BadRecord("a context record has fields that are not known here")
        return context

    @classmethod
    def _read(cls, whole: Statement) -> Context:
        if whole.predicate_type != CONTEXT or len(whole.subject) > MAX_STREAMS:
            raise BadRecord("this is no context record")
        said = whole.predicate
        _expect(said, {"template", "asked", "prompt", INPUTS})
        template: Any = said["template"]
        prompt: Any = said["prompt"]
        _expect(template, {"model", "day"})
        _expect(prompt, {"tokens", "blockTokens", "chain"})
        inputs = whole.inputs
        named = {resource.name: resource for resource in inputs}
        if TOKENIZE not in named or MODEL not in named:
            raise BadRecord("a context record names its request to tokenize and its model")
        passages = tuple(PassageUse.of(one) for one in inputs if one.name == PASSAGE)
        if len(passages) > MAX_HITS:
            raise BadRecord(f"a prompt holds at most {MAX_HITS} passages")
        prompt_ids, *requests = whole.subject
        return cls(
            prompt_ids.sha256, tuple(requests), _text(template["model"], 128),
            _asked(said["asked"], _text(template["day"], 10)),
            named[TOKENIZE], named[MODEL], _count(prompt["tokens"], MAX_IDS),
            _count(prompt["blockTokens"], MAX_IDS), _chain(prompt["chain"]), passages,
            tuple(one for one in inputs if one.name == CORPUS),
        )  # fmt: skip


# ------------------------------------------------------------ to JSON


def _message(message: Message) -> Json:
    said: dict[str, Json] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["toolCalls"] = [
            {"name": call.name, "arguments": call.arguments, "id": call.id} for call in message.tool_calls
        ]
    if message.tool_call_id:
        said["toolCallId"] = message.tool_call_id
    return said


def _tool(tool: Tool) -> Json:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


# ------------------------------------------------------------ from JSON


def _asked(value: Any, day: str) -> TokenizeRequest:
    _expect(value, {"messages", "tools", "text", "bare", "closed"})
    messages = tuple(_read_message(one) for one in _list(value["messages"], 1024))
    tools = tuple(_read_tool(one) for one in _list(value["tools"], MAX_TOOLS))
    if type(value["bare"]) is not bool or type(value["closed"]) is not bool:
        raise BadRecord("bare and closed are true or false")
    return TokenizeRequest(messages, _text(value["text"]), day, value["bare"], value["closed"], tools)


def _read_message(value: Any) -> Message:
    if type(value) is not dict or not {"role", "content"} <= set(value) <= {
        "role", "content", "toolCalls", "toolCallId",
    }:  # fmt: skip
        raise BadRecord("a message has role and content")
    if value["role"] not in ROLES:
        raise BadRecord("a message of no known role")
    calls = tuple(_read_call(one) for one in _list(value.get("toolCalls", []), 64))
    return Message(value["role"], _text(value["content"]), calls, _text(value.get("toolCallId", ""), 128))


def _read_call(value: Any) -> ToolCall:
    _expect(value, {"name", "arguments", "id"})
    return ToolCall(_text(value["name"], 128), _text(value["arguments"]), _text(value["id"], 128))


def _read_tool(value: Any) -> Tool:
    _expect(value, {"name", "description", "parameters"})
    return Tool(_text(value["name"], 128), _text(value["description"]), _text(value["parameters"]))


def _chain(value: Any) -> tuple[str, ...]:
    values = _list(value, MAX_BLOCKS)
    for one in values:
        if type(one) is not str or len(one) != 64 or not set(one) <= set("0123456789abcdef"):
            raise BadRecord("chain values are 64 lower-case hex digits")
    return tuple(values)


def _pair(value: Any, most: int) -> tuple[int, int]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise BadRecord("a span is two numbers")
    first, end = (_count(number, most) for number in value)
    if first >= end:
        raise BadRecord("a span ends after it begins")
    return first, end


def _count(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise BadRecord(f"a number from 0 to {most} is wanted")
    return value


def _text(value: Any, most: int = 1 << 20) -> str:
    if type(value) is not str or len(value) > most:
        raise BadRecord(f"a text of at most {most} characters is wanted")
    return value


def _list(value: Any, most: int) -> list[Any]:
    if type(value) is not list or len(value) > most:
        raise BadRecord(f"a list of at most {most} is wanted")
    return value


def _expect(value: Any, names: set[str]) -> None:
    if not isinstance(value, Mapping) or set(value) != names:
        raise BadRecord(f"an object with {', '.join(sorted(names))} is wanted")
