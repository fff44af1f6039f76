"""Records: what the content of calls, answers, streams and small objects holds, as msgpack.

Owns: the records of the catalogue, of envelopes and answers, and of the calls that a client makes. The records of other
calls and questions stand beside their functions (docs/records.md names the module of each). Must not know: packets,
keys, engines, how records are encoded (codec.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final

from ndn_infer.records.bounds import (
    MAX_HITS,
    MAX_TEXT,
    AtMost,
    Between,
    Count,
    Digest,
    Ids,
    Label,
    OneOf,
    Packed,
    Size,
    TokenCount,
    TokenId,
    Uri,
    Uris,
    Words,
)
from ndn_infer.records.codec import R, decode, encode, most_bytes
from ndn_infer.records.codes import PASSING
from ndn_infer.records.forms import Record, Reply, Request
from ndn_infer.records.receipt import Receipt
from ndn_infer.records.sampling import MAX_LOGPROBS, MAX_STOP_CHARACTERS, Sampling, TokenBias
from ndn_infer.records.tools import MAX_CALLS, MAX_TOOLS, Tool, ToolCall

__all__ = ["R", "Record", "Reply", "Request", "Sampling", "TokenBias", "decode", "encode", "most_bytes"]

ROLES: Final = ("system", "user", "assistant", "tool")
TOO_LONG: Final = "too-long"
"""Code of an answer: the prompt does not fit the model's context."""
MAX_EVENT_TOKENS: Final = 1024
MAX_TOKEN_BYTES: Final = 64
"""Of one token's text; longer ones are cut."""
MAX_SIGNERS: Final = 8
"""Named in one report."""
MAX_INLINE: Final = 8800
"""Bytes in one packet at the very most, and so in an envelope, an answer or an event."""

LogProbability = Annotated[float, Between(-math.inf, 1.0)]

# ---------------------------------------------------------------- catalogue


@dataclass(frozen=True, slots=True)
class ModelRecord(Reply):
    """What an alias means. `digest` names weights, tokenizer and configuration; `kind` is causal-lm,
    text-embedding or text-classifier.

    `layers`, `kv_heads`, `head_dim` describe its KV; `dated`: its chat template asks what day it is.
    """

    alias: Label
    digest: Label
    kind: Label
    architecture: Label
    context_tokens: Count
    vocabulary: Count
    layers: Count = 0
    kv_heads: Count = 0
    head_dim: Count = 0
    embedding_width: Count = 0
    source: Uri = ""
    dated: bool = False


@dataclass(frozen=True, slots=True)
class CorpusRecord(Reply):
    """What a corpus alias means; `embedder` is the digest of the embedding model its index was made with, `ranking` how
    it puts passages in order."""

    alias: Label
    digest: Label
    passages: Count
    embedder: Label
    ranking: Label = ""


# ---------------------------------------------------------------- requests (canonical: their digest is the call's name)


@dataclass(frozen=True, slots=True)
class Message(Request):
    """One chat message. Its text is text: no part of it becomes a control token of the model, whoever wrote it.

    `tool_calls` are those that the assistant asked for beside its text; a message of the role "tool" is the result of
    one of them, `tool_call_id` says of which.
    """

    role: Annotated[str, OneOf(ROLES)]
    content: Annotated[str, AtMost(MAX_TEXT)]
    tool_calls: Annotated[tuple[ToolCall, ...], AtMost(MAX_CALLS)] = ()
    tool_call_id: Label = ""

    @property
    def characters(self) -> int:
        return len(self.content) + len(self.tool_call_id) + sum(call.characters for call in self.tool_calls)


@dataclass(frozen=True, slots=True)
class TokenizeRequest(Request):
    """Either `messages` through the chat template, or `text` as it stands. `today` (like 2026-12-31) for models whose
    template has the day in it (ModelRecord.dated): equal requests have equal answers, whenever they are asked. `bare`:
    a text without what the model wants around one; `closed`: messages without the beginning of an answer after them.
    `tools` are functions that the answer may ask for: the prompt describes them (docs/tools.md)."""

    messages: Annotated[tuple[Message, ...], AtMost(1024)] = ()
    text: Annotated[str, AtMost(MAX_TEXT)] = ""
    today: Annotated[str, AtMost(10)] = ""
    bare: bool = False
    closed: bool = False
    tools: Annotated[tuple[Tool, ...], AtMost(MAX_TOOLS)] = ()

    @property
    def characters(self) -> int:
        messages, tools = (sum(part.characters for part in parts) for parts in (self.messages, self.tools))
        return len(self.text) + messages + tools


@dataclass(frozen=True, slots=True)
class GenerateRequest(Request):
    """Continue a prompt, given as token ids. The last `answered` of them are an answer that broke off: penalties count
    them, characters and stop strings may have begun in them, and `max_tokens` is what is still to come. `engine` is the
    class that computes the answer (engine_class.py); producers of other classes refuse."""

    sampling: Sampling = Sampling()
    prompt: Ids = ()
    engine: Label = ""
    answered: TokenCount = 0


@dataclass(frozen=True, slots=True)
class LookupRequest(Request):
    """The `limit` passages nearest in meaning to `query`."""

    query: Annotated[str, AtMost(1 << 14)] = ""
    limit: Annotated[int, Between(1, MAX_HITS)] = 5


@dataclass(frozen=True, slots=True)
class CorpusQuery(Request):
    """What a corpus in a tenant domain is: answered by its CorpusRecord. Public ones stand in the catalogue."""


# ---------------------------------------------------------------- the envelope of a call, and its answer


@dataclass(frozen=True, slots=True)
class CallTrace(Request):
    """Of which trace a call is part, and of which span in it: ids as W3C Trace Context has them."""

    trace_id: Annotated[bytes, AtMost(16, 16)]
    span_id: Annotated[bytes, AtMost(8, 8)]


@dataclass(frozen=True, slots=True)
class Envelope(Request):
    """ApplicationParameters of a call: the canonical request, or where to pull it, and what is outside its digest.

    `request` is empty when it does not fit an Interest: Input objects `sources` (name URIs) hold it, and its SHA-256 is
    the one in the call's name. `caller` is a routable hint to whoever serves them. `salt` is not 0 when an answer that
    caches hold turned out to be of no use. `advice` are names (URIs) that may help with the work and do not change its
    result: for generate and prefill, identities that may hold KV of the prompt. `deadline_ms`: how long the caller is
    going to wait (0: it does not say), in steps (wire/pace.py), as the Interest's name depends on it. `turn`: how many
    producers were asked before this one; it makes another name, so that what these said answers for nobody else.
    `trace`: of a caller that traces the call; equal calls are one piece of work whatever their traces. `evidence`: the
    result is to have its record beside it (docs/evidence.md), as the first of equal calls says. `context`: name of what
    the caller says of how the request came about, which that record then lists.
    """

    request: Annotated[bytes, AtMost(MAX_INLINE)] = b""
    sources: Uris = ()
    caller: Uri = ""
    salt: Size = 0
    advice: Uris = ()
    deadline_ms: Count = 0
    turn: Count = 0
    trace: CallTrace | None = None
    evidence: bool = True
    context: Uri = ""


@dataclass(frozen=True, slots=True)
class CallAnswer(Reply):
    """A producer's signed answer to a call; exactly one of three.

    done: `value` holds the result record. elsewhere: `result` is the name of what holds it: with version, an object or
    (`stream`: it grows while one reads) a stream; without, an object that is still being made. `hint` is a routable
    prefix of its producer, `queue` how many calls are before, `estimate_ms` how long it takes, by what was measured,
    until the result (of a stream: its first event) is there, 0 when unknown. failed: `code` and `error` say why; who is
    "busy" says when to come back: `retry_after_ms`; `offered` is what the producer offers instead (code "wrong-engine":
    its engine class).
    """

    value: Annotated[bytes, AtMost(MAX_INLINE)] = b""
    result: Uri = ""
    hint: Uri = ""
    stream: bool = False
    queue: Count = 0
    code: Label = ""
    error: Words = ""
    estimate_ms: Count = 0
    retry_after_ms: Count = 0
    offered: Label = ""


@dataclass(frozen=True, slots=True)
class Tokens(Reply):
    """Answer to tokenize."""

    ids: Ids


@dataclass(frozen=True, slots=True)
class TokenBlockRecord(Reply):
    """Content of a token block. `parent` is the chain value (hex) before it, the chain's seed for the first block."""

    parent: Digest
    ids: Annotated[tuple[int, ...], Packed(4096)]


@dataclass(frozen=True, slots=True)
class KvSigner(Reply):
    """Whose signature stands on `blocks` blocks of KV: an identity (URI)."""

    identity: Uri
    blocks: Count


@dataclass(frozen=True, slots=True)
class KvSources(Reply):
    """Where the KV of a prompt came from, in blocks; `tail_tokens` is the rest computed by the decoder itself.

    `signers`: who signed the blocks that the decoder did not compute, the most blocks first."""

    local: Count = 0
    named: Count = 0
    content_store: Count = 0
    prefilled: Count = 0
    recomputed: Count = 0
    tail_tokens: Count = 0
    signers: Annotated[tuple[KvSigner, ...], AtMost(MAX_SIGNERS)] = ()


@dataclass(frozen=True, slots=True)
class TokenLogprobs(Reply):
    """Natural logarithm of a token's probability under the model, before bias, penalties, temperature and filters, and
    (id, the same) of the most likely tokens, the likeliest first. `text` are the token's own bytes, not always whole
    characters, and `top_text` those of each of `top`."""

    logprob: LogProbability
    top: Annotated[tuple[tuple[TokenId, LogProbability], ...], AtMost(MAX_LOGPROBS)] = ()
    text: Annotated[bytes, AtMost(MAX_TOKEN_BYTES)] = b""
    top_text: Annotated[tuple[Annotated[bytes, AtMost(MAX_TOKEN_BYTES)], ...], AtMost(MAX_LOGPROBS)] = ()


class StreamEvent:
    """Beside Reply: what a function that streams tells, where an event may say that the stream breaks off."""

    __slots__ = ()

    @property
    def broken(self) -> str:
        """In words, why the stream breaks off with this event though nothing is wrong with the question; else ""."""
        return ""


@dataclass(frozen=True, slots=True)
class TokenEvent(Reply, StreamEvent):
    """One segment of a generate stream: the ids of one or more steps and the text that they complete.

    `logprobs` has one entry for each id when the request asked for them, else none. `prompt` has those of the prompt's
    tokens (Sampling.score_prompt), over as many events as they need: one for each token in order, the first of which,
    before which there is nothing, has the log probability 0 and no alternatives.

    `finish` is "" while the stream goes on, then "stop", "length" or "error"; the last event carries the report, and
    the `receipt` of what the answer took. With "error" `error` says why in words, `code` as that of a CallAnswer.
    `stopped_by` is the stop string that ended it, "" where none did.
    `kv_holders` are identities (URIs) that hold KV of prompt and answer: the next turn hands them on.
    """

    ids: Annotated[tuple[int, ...], Packed(MAX_EVENT_TOKENS)]
    text: Annotated[str, AtMost(MAX_INLINE)] = ""
    finish: Annotated[str, OneOf(("", "stop", "length", "error"))] = ""
    error: Words = ""
    kv: KvSources | None = None
    prompt_tokens: TokenCount = 0
    kv_names: Uris = ()
    kv_holders: Uris = ()
    logprobs: Annotated[tuple[TokenLogprobs, ...], AtMost(MAX_EVENT_TOKENS)] = ()
    prompt: Annotated[tuple[TokenLogprobs, ...], AtMost(MAX_EVENT_TOKENS)] = ()
    stopped_by: Annotated[str, AtMost(MAX_STOP_CHARACTERS)] = ""
    receipt: Receipt | None = None
    code: Label = ""

    @property
    def broken(self) -> str:
        """Why the stream breaks off here, where that says nothing of the answer: it goes on elsewhere, or later."""
        return self.error or self.code if self.finish == "error" and self.code in PASSING else ""


@dataclass(frozen=True, slots=True)
class Progress(Reply):
    """What a stream's producer says of it while nothing else comes. `state` is "queued" (then `position` others are
    before it), "prefill" (`done_blocks` of the prompt's `total_blocks` KV blocks are there) or "decode"."""

    state: Annotated[str, OneOf(("queued", "prefill", "decode"))]
    position: Count = 0
    done_blocks: Count = 0
    total_blocks: Count = 0


@dataclass(frozen=True, slots=True)
class PassageRecord(Reply):
    """`page` counts from 1; 0 where the source has no pages."""

    source: Uri
    title: Words
    text: Annotated[str, AtMost(1 << 16)]
    index: Count
    page: Count = 0


@dataclass(frozen=True, slots=True)
class Hit(Reply):
    """One retrieved passage: its object name (URI, no version), its score, and what the corpus ordered it by."""

    name: Uri
    score: Annotated[float, Between(-1e6, 1e6)]
    rank: Annotated[float, Between(-1e6, 1e6)] = 0.0


@dataclass(frozen=True, slots=True)
class Hits(Reply):
    hits: Annotated[tuple[Hit, ...], AtMost(MAX_HITS)]
