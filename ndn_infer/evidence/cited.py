"""The check of an answer's citations in a bundle: what was asked of `cite`, and whether its answer is right.

Owns: that request, its node. Must not know: what counts as a citation (citations.py), how packets are fetched. Whoever
explains an answer has all that the check was made of, and makes it again.
"""

from __future__ import annotations

from collections.abc import Mapping

from ndn_infer import records
from ndn_infer.evidence.citations import citations, objections, question_in
from ndn_infer.evidence.context import Context
from ndn_infer.evidence.judge import Judge, digest_of
from ndn_infer.evidence.node import EvidenceNode
from ndn_infer.evidence.shared_call import answer_node
from ndn_infer.namespace import Call, CallClass
from ndn_infer.records import PassageRecord
from ndn_infer.records.cite import CITE, SUBJECT, Citations, CiteRequest


def cite_request(context: Context, text: str) -> CiteRequest | None:
    """What is asked about an answer with this text; None for one that was not made from passages."""
    if not context.passages or not text.strip():
        return None
    last, messages = context.passages[-1], context.asked.messages
    message = messages[last.message].content if last.message < len(messages) else ""
    question = question_in(message, last.characters[1])
    names = tuple(use.uri for use in context.passages)
    return None if question is None else CiteRequest(question, text, names)


def cite_call(request: CiteRequest) -> Call:
    """The call that it is in the public domain."""
    return Call(*SUBJECT, CITE, CallClass.SHARED, digest_of(records.encode(request)))


async def citations_node(
    judge: Judge, context: Context, text: str, passages: Mapping[str, PassageRecord]
) -> EvidenceNode | None:
    """The node of the check of an answer with this text; None where the bundle has none. `passages`: those that are
    verified, by their names."""
    request = cite_request(context, text)
    if request is None or next(iter(judge.bundle.below(cite_call(request).to_name(judge.net))), None) is None:
        return None
    node, said = await answer_node(judge, "citations", cite_call(request), Citations)
    if said is None:
        return node
    numbers = ", ".join(f"[{number}]" for number in said.cited)
    node.words = f"it cites {numbers}" if numbers else "it cites none of its passages"
    node.facts |= {"cited": list(said.cited), "unknown": list(said.unknown), "flags": list(objections(said))}
    if any(uri not in passages for uri in request.passages):
        node.words += " (not checked: a passage is not here)"
    elif citations(request.question, text, [passages[uri] for uri in request.passages]) != said:
        node.broken("answer and passages say something else")
    return node
