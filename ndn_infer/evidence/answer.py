"""What an answer was made of, as its producer says it: the predicate of `urn:ndn-infer:answer:1`.

Owns: that predicate, the same as an in-toto Link for tools that know no predicates, and the digests of an answer. Must
not know: how answers are made, where records are kept, who is believed.

The subject of the statement is the answer: the SHA-256 of the contents of its stream's segments (clear), one after the
other, and beside it that of its token ids. Both can be computed again from the stream; the second also by whoever
makes the tokens again.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence import link, statement
from ndn_infer.evidence.answer_kv import KvInput, grouped, ungrouped
from ndn_infer.evidence.dsse import DsseEnvelope
from ndn_infer.evidence.plain_json import Json
from ndn_infer.evidence.record_json import plain_of, record_of
from ndn_infer.evidence.statement import ANSWER, INPUTS, Resource, Statement
from ndn_infer.records import KvSources
from ndn_infer.records.bounds import MAX_IDS
from ndn_infer.records.receipt import Receipt
from ndn_infer.records.sampling import Sampling
from ndn_infer.security.crypto import Signer

MAX_RECORD: Final = 2 << 20
"""Bytes of an answer's record: the KV blocks of a long prompt are most of them."""

EVENTS, IDS = "events", "ids"
"""Names of the subjects: the contents of the stream's segments; the token ids of the answer."""

_WORDS: Final = re.compile(r"[^\x00-\x20]{1,4096}")
_TEXT: Final = re.compile(r"(?s).{0,4096}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FINISH: Final = re.compile("stop|length")
_FIELDS: Final = frozenset(
    {"function", "producer", "domain", "caller", "engine", "sampling", "prompt", "answer", "kv", "receipt", INPUTS}
)


@dataclass(frozen=True, slots=True)
class AskedPrompt:
    """`tokens`: of the whole prompt, of which the last `answered` are an answer that broke off elsewhere. `sha256` and
    `answered_sha256` are digests (`ids_digest`) of the ids before those, and of those. `last_block`: name of the last
    full token block, which names the one before it, and so on; "" for a short prompt."""

    tokens: int
    sha256: str
    answered: int = 0
    answered_sha256: str = ""
    last_block: str = ""

    @classmethod
    def of(cls, ids: Sequence[int], answered: int, last_block: str = "") -> AskedPrompt:
        before, after = ids[: len(ids) - answered], ids[len(ids) - answered :]
        return cls(len(ids), ids_digest(before), answered, ids_digest(after) if answered else "", last_block)


@dataclass(frozen=True, slots=True)
class ToldAnswer:
    """`tokens` are told, which `finish` ended ("stop", "length"); `stopped_by`: the stop string that did."""

    events_sha256: str
    ids_sha256: str
    tokens: int
    finish: str
    stopped_by: str = ""


@dataclass(frozen=True, slots=True)
class AnswerClaim:
    """All that a producer says of one answer. Names are URIs. `stream`: of the answer, with version. `request`: the
    digest in the call's name, of the object `request_uri`; for a private call it is that of the sealed request, which
    `caller` (URI) made. `model` ends in the model's digest. `kv_blocks`: those that were not computed for this answer.
    """

    stream: str
    request_uri: str
    request: str
    model: str
    function: str
    producer: str
    engine: str
    sampling: Sampling
    prompt: AskedPrompt
    answer: ToldAnswer
    kv: KvSources = KvSources()
    kv_blocks: tuple[KvInput, ...] = ()
    receipt: Receipt | None = None
    context: str = ""
    domain: str = "public"
    caller: str = ""

    @property
    def model_digest(self) -> str:
        return self.model.rpartition("/")[2]

    @property
    def context_digest(self) -> str:
        """Of the context's record, as its name ends."""
        return self.context.rpartition("/")[2]


def ids_digest(ids: Sequence[int]) -> str:
    """SHA-256 of token ids, 4 bytes each, little-endian; in hex."""
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()


# ---------------------------------------------------------------- the statement


def statement_of(claim: AnswerClaim) -> Statement:
    """Raises BadRecord for what a statement cannot hold."""
    told, prompt = claim.answer, claim.prompt
    subject = (Resource(claim.stream, told.events_sha256, EVENTS), Resource(claim.stream, told.ids_sha256, IDS))
    asked: dict[str, Json] = {"tokens": prompt.tokens, "sha256": prompt.sha256}
    if prompt.answered:
        asked |= {"answered": prompt.answered, "answered_sha256": prompt.answered_sha256}
    said: dict[str, Json] = {"tokens": told.tokens, "finish": told.finish}
    if told.stopped_by:
        said["stopped_by"] = told.stopped_by
    predicate: dict[str, Json] = {
        "function": claim.function,
        "producer": claim.producer,
        "domain": claim.domain,
        "engine": claim.engine,
        "sampling": plain_of(claim.sampling),
        "prompt": asked,
        "answer": said,
        "kv": plain_of(claim.kv),
        INPUTS: statement.plain([*_named(claim), *grouped(claim.kv_blocks)]),
    }
    if claim.caller:
        predicate["caller"] = claim.caller
    if claim.receipt is not None:
        predicate["receipt"] = plain_of(claim.receipt)
    return Statement(subject, ANSWER, predicate)


def _named(claim: AnswerClaim) -> list[Resource]:
    """What it rests on, but for KV."""
    found = [Resource(claim.request_uri, claim.request, "request"), Resource(claim.model, claim.model_digest, "model")]
    if claim.context:
        found.append(Resource(claim.context, claim.context_digest, "context"))
    if claim.prompt.last_block:
        found.append(Resource(claim.prompt.last_block, name="tokens"))
    return found


def claim_of(said: Statement) -> AnswerClaim:
    """What a statement says. Raises BadRecord where it is no honest form of an answer's: fields that lack or are more,
    or that do not agree with each other."""
    try:
        claim = _claim(said)
        if said.predicate_type == ANSWER and statement.encode(statement_of(claim)) == statement.encode(said):
            return claim
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise BadRecord(f"this is not the statement of an answer: {error!r}") from error
    raise BadRecord("this is not the statement of an answer, or not in its one form")


def _claim(said: Statement) -> AnswerClaim:
    """Whatever is missing or of another type raises, or makes another statement."""
    value: Any = said.predicate
    if not set(value) <= _FIELDS or len(said.subject) != 2:
        raise BadRecord("a statement of an answer has fields that are not known here")
    events, ids = said.subject
    request, model, *inputs = said.inputs
    named = {one.name: one.uri for one in inputs if one.name in ("context", "tokens")}
    asked, told = value["prompt"], value["answer"]
    numbers = (asked["tokens"], asked.get("answered", 0), told["tokens"])
    _check([value[name] for name in ("function", "producer", "domain", "engine")], _WORDS)
    _check([value.get("caller", ""), told.get("stopped_by", "")], _TEXT)
    _check([asked["sha256"], asked.get("answered_sha256", asked["sha256"])], _DIGEST)
    _check([told["finish"]], _FINISH)
    if any(type(number) is not int or not 0 <= number <= MAX_IDS for number in numbers):
        raise BadRecord("a statement of an answer counts otherwise")
    return AnswerClaim(
        stream=events.uri,
        request_uri=request.uri,
        request=request.sha256,
        model=model.uri,
        function=value["function"],
        producer=value["producer"],
        engine=value["engine"],
        sampling=record_of(Sampling, value["sampling"]),
        prompt=AskedPrompt(
            numbers[0], asked["sha256"], numbers[1], asked.get("answered_sha256", ""), named.get("tokens", "")
        ),
        answer=ToldAnswer(events.sha256, ids.sha256, numbers[2], told["finish"], told.get("stopped_by", "")),
        kv=record_of(KvSources, value["kv"]),
        kv_blocks=ungrouped([one for one in inputs if one.name == "kv"]),
        receipt=record_of(Receipt, value["receipt"]) if "receipt" in value else None,
        context=named.get("context", ""),
        domain=value["domain"],
        caller=value.get("caller", ""),
    )


def _check(values: Sequence[Any], pattern: re.Pattern[str]) -> None:
    if not all(type(value) is str and pattern.fullmatch(value) for value in values):
        raise BadRecord("a statement of an answer has words of another form")


# ---------------------------------------------------------------- the link


def link_of(claim: AnswerClaim) -> bytes:
    """The same as a Link (link.py)."""
    return link.link(claim.function, _named(claim), Resource(claim.stream, claim.answer.events_sha256))


# ---------------------------------------------------------------- the record


@dataclass(frozen=True, slots=True)
class AnswerEnvelopes:
    """Of one record: the statement's, and the link's."""

    statement: DsseEnvelope
    link: DsseEnvelope


def encode(claim: AnswerClaim, signer: Signer) -> bytes:
    """Content of an answer's record: in-toto's bundle of two envelopes, the statement's and the link's."""
    return link.encode(statement_of(claim), link_of(claim), signer)


def decode(content: bytes | memoryview) -> tuple[AnswerClaim, AnswerEnvelopes]:
    """What a record says, and its envelopes, whose signatures are for the caller to verify (dsse.verify). Raises
    BadRecord for anything else than what `encode` makes; so the link says what the statement says."""
    said, envelope, beside = link.decode(content, MAX_RECORD)
    claim = claim_of(said)
    if not link.same(beside.payload, link_of(claim)):
        raise BadRecord("the link of an answer says something else than its statement")
    return claim, AnswerEnvelopes(envelope, beside)
