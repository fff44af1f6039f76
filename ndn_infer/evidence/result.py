"""What a result was made of that is no answer of a model: the predicate of `urn:ndn-infer:result:1`.

Owns: that predicate: of tokenize, detokenize, prefill, embed, lookup and functions of others. Must not know: what any
result holds, when records are made, who is believed. The subject is the SHA-256 of the result's record (clear).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence import link, statement
from ndn_infer.evidence.dsse import DsseEnvelope
from ndn_infer.evidence.plain_json import Json
from ndn_infer.evidence.statement import INPUTS, RESULT, Resource, Statement
from ndn_infer.security.crypto import Signer

MAX_RESULT_RECORD: Final = 1 << 16
VALUE: Final = "value"
_WORDS: Final = re.compile(r"[^\x00-\x20]{1,4096}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = frozenset({"function", "producer", "domain", "caller", "engine", INPUTS})


@dataclass(frozen=True, slots=True)
class ResultClaim:
    """All that a producer says of one result. Names are URIs. `request`: the digest in the call's name; for a private
    call that of the sealed request, which `caller` (URI) made. `of` is what the function works on, of the kind
    `of_kind` (model, corpus, service). `engine`: the class that computed, "" where there is none."""

    result: str
    sha256: str
    request_uri: str
    request: str
    of: str
    of_kind: str
    function: str
    producer: str
    engine: str = ""
    context: str = ""
    domain: str = "public"
    caller: str = ""

    @property
    def inputs(self) -> list[Resource]:
        digest = self.of.rpartition("/")[2]
        found = [
            Resource(self.request_uri, self.request, "request"),
            Resource(self.of, digest if _DIGEST.fullmatch(digest) else "", self.of_kind),
        ]
        if self.context:
            found.append(Resource(self.context, self.context.rpartition("/")[2], "context"))
        return found


def statement_of(claim: ResultClaim) -> Statement:
    predicate: dict[str, Json] = {
        "function": claim.function, "producer": claim.producer, "domain": claim.domain,
        INPUTS: statement.plain(claim.inputs),
    }  # fmt: skip
    predicate |= {name: said for name, said in (("engine", claim.engine), ("caller", claim.caller)) if said}
    return Statement((Resource(claim.result, claim.sha256, VALUE),), RESULT, predicate)


def claim_of(said: Statement) -> ResultClaim:
    """Raises BadRecord where it is not the statement of a result, in its one form."""
    try:
        claim = _claim(said)
        if said.predicate_type == RESULT and statement.encode(statement_of(claim)) == statement.encode(said):
            return claim
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise BadRecord(f"this is not the statement of a result: {error!r}") from error
    raise BadRecord("this is not the statement of a result, or not in its one form")


def _claim(said: Statement) -> ResultClaim:
    value: Any = said.predicate
    (subject,) = said.subject
    request, of, *context = said.inputs
    words = [value["function"], value["producer"], value["domain"], value.get("engine", "-"), value.get("caller", "-")]
    if not set(value) <= _FIELDS or not all(type(word) is str and _WORDS.fullmatch(word) for word in words):
        raise BadRecord("a statement of a result has other fields, or words of another form")
    return ResultClaim(
        subject.uri, subject.sha256, request.uri, request.sha256, of.uri, of.name, value["function"],
        value["producer"], value.get("engine", ""), context[0].uri if context else "", value["domain"],
        value.get("caller", ""),
    )  # fmt: skip


def _link_of(claim: ResultClaim) -> bytes:
    return link.link(claim.function, claim.inputs, Resource(claim.result, claim.sha256))


def encode(claim: ResultClaim, signer: Signer) -> bytes:
    """Content of a result's record, in the form of an answer's."""
    return link.encode(statement_of(claim), _link_of(claim), signer)


def decode(content: bytes | memoryview) -> tuple[ResultClaim, tuple[DsseEnvelope, DsseEnvelope]]:
    """What a record says, and its envelopes, whose signatures are for the caller to verify. Raises BadRecord."""
    said, *envelopes = link.decode(content, MAX_RESULT_RECORD)
    claim = claim_of(said)
    if not link.same(envelopes[1].payload, _link_of(claim)):
        raise BadRecord("the link of a result says something else than its statement")
    return claim, (envelopes[0], envelopes[1])
