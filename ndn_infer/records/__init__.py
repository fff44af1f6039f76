"""Records: what the content of calls, answers, streams and small objects holds, as msgpack.

Owns: the records of calls, answers, streams and the catalogue. Must not know: packets, keys, engines, how records are
encoded (codec.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from ndn_infer.records.codec import MAX_RECORD_BYTES, R, Record, decode, encode, request_digest

__all__ = ["MAX_RECORD_BYTES", "R", "Record", "decode", "encode", "request_digest"]

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


@dataclass(frozen=True, slots=True)
class DetokenizeRequest(Record):
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbedRequest(Record):
    """`ids` for token embeddings of a causal model, `texts` for sentence vectors of a text-embedding model."""

    ids: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PrefillRequest(Record):
    """Compute KV for a chain of token blocks. `blocks` are all chain values (hex) from the first; KV of the first
    `have` exists by name already. `codec` (dtype and implementation of the engine) must be the producer's own."""

    blocks: tuple[str, ...] = ()
    have: int = 0
    block_tokens: int = 0
    codec: str = ""


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
    dtype: str = "bf16"
    answered: int = 0


@dataclass(frozen=True, slots=True)
class LookupRequest(Record):
    """The `limit` passages nearest in meaning to `query`."""

    query: str = ""
    limit: int = 5


# ---------------------------------------------------------------- the envelope of a call, and its answer


@dataclass(frozen=True, slots=True)
class Envelope(Record):
    """ApplicationParameters of a call: the canonical request, or where to pull it, and what is outside its digest.

    `request` is empty when it does not fit an Interest: Input objects `sources` (name URIs) hold it, and its SHA-256 is
    the one in the call's name. `caller` is a routable hint to whoever serves them. `salt` is not 0 when an answer that
    caches hold turned out to be of no use. `advice` are names (URIs) that may help with the work and do not change its
    result: for generate and prefill, identities that may hold KV of the prompt.
    """

    request: bytes = b""
    sources: tuple[str, ...] = ()
    caller: str = ""
    salt: int = 0
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """A producer's signed answer to a call; exactly one of three.

    done: `value` holds the result record. elsewhere: `result` is the name of what holds it: with version, an object or
    (`stream`: it grows while one reads) a stream; without, an object that is still being made. `hint` is a routable
    prefix of its producer, `queue` how many calls are before. failed: `code` and `error` say why.
    """

    value: bytes = b""
    result: str = ""
    hint: str = ""
    stream: bool = False
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
class KvSigner(Record):
    """Whose signature stands on `blocks` blocks of KV: an identity (URI)."""

    identity: str
    blocks: int


@dataclass(frozen=True, slots=True)
class PrefillReport(Record):
    """Result of prefill: how many blocks there are now, of which `computed` here and now; the others were at hand or
    found by name. `signers`: of those that this producer did not compute, who signed how many. What was computed rests
    on these."""

    blocks: int
    computed: int
    prefill_ms: float = 0.0
    signers: tuple[KvSigner, ...] = ()


@dataclass(frozen=True, slots=True)
class KvSources(Record):
    """Where the KV of a prompt came from, in blocks; `tail_tokens` is the rest computed by the decoder itself.

    `signers`: who signed the blocks that the decoder did not compute, the most blocks first."""

    local: int = 0
    named: int = 0
    content_store: int = 0
    prefilled: int = 0
    recomputed: int = 0
    tail_tokens: int = 0
    signers: tuple[KvSigner, ...] = ()


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
class Progress(Record):
    """What a stream's producer says of it while nothing else comes. `state` is "queued" (then `position` others are
    before it), "prefill" (`done_blocks` of the prompt's `total_blocks` KV blocks are there) or "decode"."""

    state: str
    position: int = 0
    done_blocks: int = 0
    total_blocks: int = 0


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
