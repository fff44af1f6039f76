"""The record of a result in a bundle that is no answer of a model, and whether it agrees with the result.

Owns: the node of such a record. Must not know: the form of records (result.py), what results hold, how a tree is shown.
"""

from __future__ import annotations

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, BadRecord, MissingKey, TrustError
from ndn_infer.evidence import dsse
from ndn_infer.evidence import result as results
from ndn_infer.evidence.judge import Judge, State, digest_of, signer_of
from ndn_infer.evidence.node import EvidenceNode
from ndn_infer.evidence.result import ResultClaim
from ndn_infer.namespace import Result
from ndn_infer.security.domains import is_sealed


async def record_node(judge: Judge, result: Result) -> tuple[EvidenceNode, ResultClaim | None]:
    """What a result's producer says of it, where that is here and right in itself."""
    base = result.record().to_name(judge.net)
    node = EvidenceNode("result record", ndn.to_uri(base), State.VERIFIED, "what its producer says of it")
    found = await judge.object(base)
    node.take(found.finding)
    node.signer = signer_of(found.finding)
    if found.content is None:
        return node, None
    if is_sealed(found.content):
        node.state, node.why = State.UNPROVEN, "it is sealed in a domain"
        return node, None
    key = await judge.key(found.finding.key)
    try:
        claim, envelopes = results.decode(found.content)
        for envelope in envelopes:
            if key.certificate is None or not dsse.verify(envelope, key.certificate.public_der):
                raise BadRecord("an envelope in it is not signed by the key that signed the object")
        _compare(claim, judge, result, node.signer)
    except (BadRecord, BadPacket, TrustError, MissingKey) as error:
        node.broken(str(error))
        return node, None
    engine = f", engine class {claim.engine}" if claim.engine else ""
    node.words = f"its producer says: {claim.function} of this request{engine}, value {claim.sha256[:16]}"
    node.facts |= {"producer": claim.producer, "function": claim.function, "sha256": claim.sha256}
    node.facts |= {name: said for name, said in (("engine", claim.engine), ("context", claim.context)) if said}
    return node, claim


def _compare(claim: ResultClaim, judge: Judge, result: Result, signer: str) -> None:
    """Raises BadRecord."""
    if claim.result != ndn.to_uri(result.to_name(judge.net)) or claim.request != result.request:
        raise BadRecord("it is about another result")
    if (claim.of_kind, claim.of.rpartition("/")[2]) != (result.subject_kind, result.subject):
        raise BadRecord("it is about another model, corpus or service than its name")
    if claim.producer != signer or claim.function != result.function:
        raise BadRecord("it says another producer or function than its name and signature")


async def said_of(judge: Judge, result: Result, value: bytes) -> EvidenceNode | None:
    """The record of a result whose value is at hand; None where the bundle has none: not every producer makes them."""
    if judge.bundle.newest(result.record().to_name(judge.net)) is None:
        return None
    node, claim = await record_node(judge, result)
    if claim is not None and claim.sha256 != digest_of(value):
        node.broken("it is about another value: the digest differs")
    return node
