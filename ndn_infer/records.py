"""Records: what the content of calls, answers, streams and small objects holds, as msgpack.

Owns: every record type, its limits, and the canonical encoding whose SHA-256 is a request's name. The only module that
imports msgpack. Must not know: packets, keys, engines. Callers decode a record only from bytes that were verified (a
request's bytes are covered by the digest in its name).

A record is a msgpack map with sorted string keys; fields at their default are left out, so adding a field with a
default keeps old digests. Decoding names the expected class: the wire never picks one. Unknown fields are refused.
"""

from __future__ import annotations

import hashlib
import types
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from ndn_infer.errors import BadRecord

MAX_RECORD_BYTES: Final = 16 << 20

R = TypeVar("R", bound="Record")


@dataclass(frozen=True, slots=True)
class Record:
    """Base of all records: frozen dataclasses of str, bytes, int, float, bool, None, tuples and records."""


def encode(record: Record) -> bytes:
    """Canonical bytes of a record."""
    wire: bytes = msgpack.packb(_to_plain(record), use_bin_type=True)
    return wire


def request_digest(record: Record) -> str:
    """SHA-256, in hex, of the canonical bytes: the <request> component of a call's name."""
    return hashlib.sha256(encode(record)).hexdigest()


def decode(cls: type[R], wire: bytes | memoryview) -> R:
    """The record of class `cls` in `wire`. Raises BadRecord for anything else, including unknown fields."""
    if len(wire) > MAX_RECORD_BYTES:
        raise BadRecord(f"a record of {len(wire)} bytes exceeds {MAX_RECORD_BYTES}")
    try:
        plain = msgpack.unpackb(wire, raw=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.UnpackException, RecursionError, TypeError) as error:
        raise BadRecord(f"not a {cls.__name__}: {error}") from error
    result = _from_plain(cls, plain, cls.__name__)
    assert isinstance(result, cls)
    return result


def _to_plain(value: Any) -> Any:
    if isinstance(value, Record):
        plain = {}
        for item in sorted(fields(value), key=lambda item: item.name):
            current = getattr(value, item.name)
            if item.default is MISSING or current != item.default:
                # An int given for a float field must not make another digest.
                plain[item.name] = float(current) if _hints(type(value))[item.name] is float else _to_plain(current)
        return plain
    if isinstance(value, tuple):
        return [_to_plain(element) for element in value]
    return value


_HINTS: Final[dict[type, dict[str, Any]]] = {}


def _hints(cls: type) -> dict[str, Any]:
    if cls not in _HINTS:
        _HINTS[cls] = get_type_hints(cls)
    return _HINTS[cls]


def _from_plain(expected: Any, plain: Any, where: str) -> Any:
    """`plain` as `expected`; raises BadRecord naming the field that does not fit."""
    origin = get_origin(expected)
    if origin is tuple:
        return _tuple_from_plain(expected, plain, where)
    if origin in (Union, types.UnionType):
        options = get_args(expected)
        if plain is None and type(None) in options:
            return None
        return _from_plain(next(option for option in options if option is not type(None)), plain, where)
    if isinstance(expected, type) and issubclass(expected, Record):
        return _record_from_plain(expected, plain, where)
    if expected is float and type(plain) is int:
        return float(plain)
    if type(plain) is not expected:
        raise BadRecord(f"{where} is not of type {getattr(expected, '__name__', expected)}")
    return plain


def _tuple_from_plain(expected: Any, plain: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(plain, list):
        raise BadRecord(f"{where} is not a list")
    arguments = get_args(expected)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        element = arguments[0]
        if element is int:  # long lists of token ids: one pass, no call per id
            if not all(type(item) is int for item in plain):
                raise BadRecord(f"{where} is not a list of integers")
            return tuple(plain)
        return tuple(_from_plain(element, item, where) for item in plain)
    if len(arguments) != len(plain):
        raise BadRecord(f"{where} has {len(plain)} elements, expected {len(arguments)}")
    return tuple(_from_plain(kind, item, where) for kind, item in zip(arguments, plain, strict=True))


def _record_from_plain(cls: type[Record], plain: Any, where: str) -> Record:
    if not isinstance(plain, dict):
        raise BadRecord(f"{where} is not a {cls.__name__}")
    hints = _hints(cls)
    unknown = plain.keys() - hints.keys()
    if unknown:
        raise BadRecord(f"{where} has unknown fields: {', '.join(sorted(map(str, unknown)))}")
    values = {key: _from_plain(hints[key], value, f"{where}.{key}") for key, value in plain.items()}
    missing = [item.name for item in fields(cls) if item.default is MISSING and item.name not in values]
    if missing:
        raise BadRecord(f"{where} lacks {', '.join(missing)}")
    return cls(**values)


# ---------------------------------------------------------------- catalogue


@dataclass(frozen=True, slots=True)
class ModelRecord(Record):
    """What an alias means. `digest` names weights, tokenizer and configuration; `kind` is causal-lm or text-embedding.

    `layers`, `kv_heads`, `head_dim` describe its KV; `dtypes` the compute types that its producers may declare.
    """

    alias: str
    digest: str
    kind: str
    architecture: str
    context_tokens: int
    vocabulary: int
    layers: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    embedding_width: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class CorpusRecord(Record):
    """What a corpus alias means; `embedder` is the digest of the embedding model its index was made with."""

    alias: str
    digest: str
    passages: int
    embedder: str


# ---------------------------------------------------------------- requests (canonical: their digest is the call's name)
#
# A request too large for an Interest travels as `content` alone: the SHA-256 (hex) of an Input object that holds the
# whole record, which the producer pulls by name.


@dataclass(frozen=True, slots=True)
class Message(Record):
    """One chat message; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class TokenizeRequest(Record):
    """Either `messages` through the chat template, or `text` as it stands."""

    messages: tuple[Message, ...] = ()
    text: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class DetokenizeRequest(Record):
    ids: tuple[int, ...] = ()
    content: str = ""


@dataclass(frozen=True, slots=True)
class EmbedRequest(Record):
    """`ids` for token embeddings of a causal model, `texts` for sentence vectors of a text-embedding model."""

    ids: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    content: str = ""


@dataclass(frozen=True, slots=True)
class PrefillRequest(Record):
    """Compute KV for a chain of token blocks. `blocks` are all chain values (hex) from the first; KV of the first
    `have` exists by name already. `codec` (dtype and implementation of the engine) must be the producer's own."""

    blocks: tuple[str, ...] = ()
    have: int = 0
    block_tokens: int = 0
    codec: str = ""
    domain: str = "public"
    content: str = ""


@dataclass(frozen=True, slots=True)
class TokenBias(Record):
    """`bias` is added to the logit of token `id`."""

    id: int
    bias: float


@dataclass(frozen=True, slots=True)
class Sampling(Record):
    """How the next token is chosen. temperature 0 is greedy; the other defaults are off; `seed` counts with the
    position, so a continuation anywhere gives the same tokens. engine/sampler.py says what each value does.

    Every field is part of the request's digest, `logprobs` (how many alternatives are told with each token) too: it
    changes the answer's bytes. `logit_bias` stands in rising order of ids, so that equal requests have equal names.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[TokenBias, ...] = ()
    logprobs: int = 0


@dataclass(frozen=True, slots=True)
class GenerateRequest(Record):
    """Continue a prompt, given as token ids. The last `answered` of them are an answer that broke off: penalties count
    them, characters and stop strings may have begun in them, and `max_tokens` is what is still to come."""

    sampling: Sampling = Sampling()
    prompt: tuple[int, ...] = ()
    content: str = ""
    dtype: str = "bf16"
    domain: str = "public"
    answered: int = 0


@dataclass(frozen=True, slots=True)
class LookupRequest(Record):
    """The `limit` passages nearest in meaning to `query`."""

    query: str = ""
    limit: int = 5
    content: str = ""


# ---------------------------------------------------------------- the envelope of a call, and its answer


@dataclass(frozen=True, slots=True)
class Envelope(Record):
    """ApplicationParameters of a call: the canonical request and, outside its digest, where inputs can be pulled.

    `sources` are name URIs of Input objects; `caller` is a routable hint to whoever serves them. `salt` is not 0 when
    an answer that caches hold turned out to be of no use. `kv` are identities (URIs) that may hold KV of the prompt.
    """

    request: bytes
    sources: tuple[str, ...] = ()
    caller: str = ""
    salt: int = 0
    kv: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """A producer's signed answer to a call; exactly one of three.

    done: `value` holds the result record. elsewhere: `result` is the name (with version) of an object or stream that
    holds or will hold it; `hint` a routable prefix of its producer; `stream` says it grows while one reads;
    `wait_ms` estimates when it begins, `queue` how many are before. failed: `code` and `error` say why.
    """

    value: bytes = b""
    result: str = ""
    hint: str = ""
    stream: bool = False
    wait_ms: int = 0
    queue: int = 0
    code: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Tokens(Record):
    """Answer to tokenize: the ids and the names of their full blocks, when published (`chains` in hex)."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Text(Record):
    text: str


@dataclass(frozen=True, slots=True)
class TensorRecord(Record):
    """Answer to embed: one tensor in its wire form (tensors.py)."""

    tensor: bytes


@dataclass(frozen=True, slots=True)
class TokenBlockRecord(Record):
    """Content of a token block. `parent` is the chain value (hex) before it, the chain's seed for the first block."""

    parent: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PrefillReport(Record):
    """Result of prefill: how many blocks it published, of which `computed` now and the others found in its store."""

    blocks: int
    computed: int
    prefill_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class KvSources(Record):
    """Where the KV of a prompt came from, in blocks; `tail_tokens` is the rest computed by the decoder itself."""

    local: int = 0
    named: int = 0
    content_store: int = 0
    prefilled: int = 0
    recomputed: int = 0
    tail_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprobs(Record):
    """Natural logarithm of a token's probability under the model, before bias, penalties, temperature and filters, and
    (id, the same) of the most likely tokens, the likeliest first."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenEvent(Record):
    """One segment of a generate stream: the ids of one or more steps and the text that they complete.

    `logprobs` has one entry for each id when the request asked for them, else none.

    `finish` is "" while the stream goes on, then "stop", "length" or "error"; the last event carries the report.
    `kv_holders` are identities (URIs) that hold KV of prompt and answer: the next turn hands them on.
    """

    ids: tuple[int, ...]
    text: str = ""
    finish: str = ""
    error: str = ""
    kv: KvSources | None = None
    prompt_tokens: int = 0
    kv_names: tuple[str, ...] = ()
    kv_holders: tuple[str, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class HoldsQuery(Record):
    """Which of these KV blocks do you hold? `tags` are the first 8 bytes of each chain value, one after another."""

    tags: bytes
    layers: str


@dataclass(frozen=True, slots=True)
class Holdings(Record):
    """Answer to HoldsQuery: for every tag the version of the object, 8 bytes big-endian; 0 for a block not held.

    A claim, not a proof: whoever acts on it verifies each object under the name that the version completes.
    """

    versions: bytes


@dataclass(frozen=True, slots=True)
class PassageRecord(Record):
    source: str
    title: str
    text: str
    index: int


@dataclass(frozen=True, slots=True)
class Hit(Record):
    """One retrieved passage: its object name (URI, no version), score and text."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class Hits(Record):
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Counter(Record):
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class ProducerStatus(Record):
    """One producer about itself. `offers` are prefixes (URIs); `queue` calls waiting; `running` calls in work."""

    identity: str
    functions: tuple[str, ...]
    models: tuple[str, ...]
    offers: tuple[str, ...]
    pid: int
    uptime_s: float
    queue: int
    running: int
    counters: tuple[Counter, ...] = ()
