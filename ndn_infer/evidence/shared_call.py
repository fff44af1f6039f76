"""The answer of a shared call in a bundle, with its result and its record.

Owns: their nodes. Must not know: which function it is, what its result means.
"""

from __future__ import annotations

from ndn_infer import ndn, records
from ndn_infer.errors import BadRecord
from ndn_infer.evidence.judge import Finding, Judge, State, signer_of
from ndn_infer.evidence.node import EvidenceNode
from ndn_infer.evidence.said_of_result import said_of
from ndn_infer.namespace import Call
from ndn_infer.ndn.packet import Data
from ndn_infer.records import CallAnswer


async def answer_node(
    judge: Judge, kind: str, call: Call, cls: type[records.R]
) -> tuple[EvidenceNode, records.R | None]:  # fmt: skip
    """The node of this kind, and what was answered where it is verified."""
    name = call.to_name(judge.net)
    node = EvidenceNode(kind, ndn.to_uri(name), State.VERIFIED)
    data = next(iter(judge.bundle.below(name)), None)
    if data is None:
        node.take(Finding(State.MISSING, f"the answer of {call.function} is not here"))
        return node, None
    finding = await judge.packet(data)
    node.take(finding)
    node.signer = signer_of(finding)
    return node, await _result(judge, node, call, data, cls) if finding.good else None


async def _result(judge: Judge, node: EvidenceNode, call: Call, data: Data, cls: type[records.R]) -> records.R | None:
    answer = decoded(node, CallAnswer, data.content)
    if answer is None:
        return None
    value: bytes | None = answer.value
    if answer.result:
        found = await judge.object(call.result().to_name(judge.net))
        node.take(found.finding)
        value = found.content
    record = None if value is None else await said_of(judge, call.result(), value)
    node.parts += [] if record is None else [record]
    return decoded(node, cls, value)


def decoded(node: EvidenceNode, cls: type[records.R], content: bytes | None) -> records.R | None:
    """The record; where it is none the node says so."""
    if content is None:
        return None
    try:
        return records.decode(cls, content)
    except BadRecord as error:
        node.broken(str(error))
        return None
