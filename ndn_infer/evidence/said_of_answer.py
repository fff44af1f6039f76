"""The record of an answer in a bundle, and whether it agrees with the answer, the request and the prompt.

Owns: the nodes of the record and of the KV that it names. Must not know: the form of records (answer.py), prompts'
texts, how a tree is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadName, BadPacket, BadRecord, MissingKey, TrustError
from ndn_infer.evidence import answer as answers
from ndn_infer.evidence import dsse
from ndn_infer.evidence.answer import AnswerClaim
from ndn_infer.evidence.answer_kv import KvInput
from ndn_infer.evidence.answers import JudgedAnswer, JudgedRequest, StreamName
from ndn_infer.evidence.judge import Finding, Judge, State, signer_of
from ndn_infer.evidence.node import EvidenceNode
from ndn_infer.evidence.record_json import plain_of
from ndn_infer.namespace import KvBlock
from ndn_infer.records import GenerateRequest
from ndn_infer.security.domains import PUBLIC, Domain, is_sealed

SOURCES: Final = {
    "local": "at hand at the decode producer",
    "peer": "fetched by name",
    "content-store": "from a Content Store",
    "prefilled": "computed by prefill for this prompt",
}


@dataclass(frozen=True, slots=True)
class JudgedRecord:
    """What the producer says of its answer, where the record is here and right in itself."""

    base: bytes
    finding: Finding
    said: AnswerClaim | None = None


async def judge_record(judge: Judge, stream: StreamName, domain: str) -> JudgedRecord:
    """The record beside the stream, of the stream's version; `domain` is the label of the domain that it is sealed in,
    or public."""
    base = stream.result.record().to_name(judge.net)
    found = await judge.object(base, stream.version)
    if found.content is None:
        return JudgedRecord(base, found.finding)
    if domain == PUBLIC.label and is_sealed(found.content):
        why = "it is sealed, and the request that says in which domain is not here"
        return JudgedRecord(base, Finding(State.UNPROVEN, why, found.finding.key))
    key = await judge.key(found.finding.key)
    try:
        claim, envelopes = answers.decode(judge.domain(domain).open(base, found.content))
        for envelope in (envelopes.statement, envelopes.link):
            if key.certificate is None or not dsse.verify(envelope, key.certificate.public_der):
                raise BadRecord("an envelope in it is not signed by the key that signed the object")
    except MissingKey as error:
        return JudgedRecord(base, Finding(State.UNPROVEN, f"it is sealed: {error}", found.finding.key))
    except (BadRecord, BadPacket, TrustError) as error:
        return JudgedRecord(base, Finding(State.BROKEN, str(error), found.finding.key))
    return JudgedRecord(base, found.finding, claim)


def record_node(
    stream: StreamName, record: JudgedRecord, answer: JudgedAnswer, request: JudgedRequest
) -> EvidenceNode:  # fmt: skip
    """The record, compared with what it is about."""
    node = EvidenceNode("answer record", ndn.to_uri(record.base), State.VERIFIED, "what its producer says of it")
    node.take(record.finding)
    node.signer = signer_of(record.finding)
    claim = record.said
    if claim is None:
        return node
    if wrong := _wrong(stream, claim, answer, node.signer) or _wrong_request(stream, claim, request.said):
        node.broken(wrong)
        return node
    node.words = f"its producer says the same; engine class {claim.engine}, {len(claim.kv_blocks)} blocks of KV by name"
    node.facts |= {"engine": claim.engine, "producer": claim.producer, "kv": plain_of(claim.kv)}
    if claim.context:
        node.facts["context"] = claim.context
    if claim.receipt is not None:
        node.facts["receipt"] = plain_of(claim.receipt)
    return node


def _wrong(stream: StreamName, claim: AnswerClaim, answer: JudgedAnswer, signer: str) -> str:
    if claim.stream != ndn.to_uri(stream.name):
        return "it is about another answer"
    if answer.signer and signer != ndn.to_uri(ndn.prefix(answer.signer, -2)):
        return "somebody else signed it than the answer"
    if answer.digest and claim.answer.events_sha256 != answer.digest:
        return "it is about an answer with other bytes: the digest differs"
    if answer.digest and claim.answer.ids_sha256 != answers.ids_digest(answer.ids):
        return "it is about an answer with other ids: the digest differs"
    return ""


def _wrong_request(stream: StreamName, claim: AnswerClaim, request: GenerateRequest | None) -> str:
    if claim.request != stream.result.request or claim.model_digest != stream.result.subject:
        return "it is about another request, or another model"
    if request is None:
        return ""
    asked = request.prompt[: len(request.prompt) - request.answered]
    if claim.prompt.tokens != len(request.prompt) or claim.prompt.sha256 != answers.ids_digest(asked):
        return "it is about another prompt than the request"
    if claim.sampling != request.sampling or (request.engine and claim.engine != request.engine):
        return "it says another sampling or engine class than the request"
    return ""


# ------------------------------------------------------------ KV


async def kv_nodes(
    judge: Judge, claim: AnswerClaim, domain: Domain, ids: tuple[int, ...] | None, block: int
) -> list[EvidenceNode]:
    """A node for each block of KV that the record names: its signed manifest. `ids` are the prompt's, `block` of them
    in a block, where they are known."""
    values = [] if ids is None else [value.hex() for value in domain.chain_values(ids, block)]
    return [await _kv_node(judge, one, claim.model_digest, values) for one in claim.kv_blocks]


async def _kv_node(judge: Judge, one: KvInput, model: str, values: list[str]) -> EvidenceNode:
    node = EvidenceNode("KV block", one.uri, State.VERIFIED)
    node.words = f"block {one.index} of the prompt, {SOURCES.get(one.source, one.source)}"
    node.facts |= {"index": one.index, "source": one.source}
    try:
        base = ndn.from_uri(one.uri)
        named = KvBlock.parse(judge.net, base)
    except BadName:
        named = None
    if named is None or named.model != model:
        node.broken("this is not the name of a block of KV of this model")
        return node
    node.facts["codec"] = named.codec
    found = await judge.object(base, one.version or None, whole=False)
    node.take(found.finding)
    node.signer = signer_of(found.finding)
    if values and (one.index >= len(values) or values[one.index] != named.chain):
        node.broken("it is KV of other tokens than the prompt has there")
    elif found.finding.good and one.signer and one.signer != node.signer:
        node.broken(f"the record says that {one.signer} signed it")
    return node
