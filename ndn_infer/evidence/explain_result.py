"""Explaining a result that is no answer of a model: of tokenize, prefill, embed, lookup and functions of others.

Owns: the nodes of that tree. Must not know: how packets are fetched, how a tree is shown. Pure over a bundle.
"""

from __future__ import annotations

from ndn_infer import ndn
from ndn_infer.evidence.bundle import EvidenceBundle
from ndn_infer.evidence.explain import bundle_notes, deny_list_node, key_nodes
from ndn_infer.evidence.judge import Finding, Judge, State, Trust, digest_of, signer_of
from ndn_infer.evidence.node import EvidenceNode, Explanation
from ndn_infer.evidence.said_of_result import record_node
from ndn_infer.namespace import Result
from ndn_infer.security.domains import is_sealed


async def explain_result(bundle: EvidenceBundle, result: Result, trust: Trust) -> Explanation:
    """The tree of one result that is no answer of a model: what was asked, who computed, who vouches for whom."""
    judge = Judge(bundle, trust)
    denied = await judge.heed_revocations()
    root = EvidenceNode("result", ndn.to_uri(result.to_name(judge.net)), State.VERIFIED)
    root.words = f"{result.function} of {result.subject_kind} {result.subject[:16]}"
    record, claim = await record_node(judge, result)
    root.parts += [record, await _request_node(judge, result)]
    value = await judge.object(result.to_name(judge.net))
    if value.finding.state is not State.MISSING:  # who asked has the value, if the bundle has not
        root.take(value.finding)
    if value.content is not None:
        if is_sealed(value.content):
            root.take(Finding(State.UNPROVEN, "it is sealed in a domain, and cannot be compared with its record"))
        elif claim is not None and digest_of(value.content) != claim.sha256:
            root.broken("it is another result than its record says: the digest differs")
        root.words += f", {len(value.content)} bytes"
    root.parts += [*key_nodes(judge), deny_list_node(denied)]
    return Explanation(root, trust.now, bundle_notes(judge))


async def _request_node(judge: Judge, result: Result) -> EvidenceNode:
    base = result.asked().to_name(judge.net)
    node = EvidenceNode("request", ndn.to_uri(base), State.VERIFIED, "what was asked")
    found = await judge.object(base)
    node.take(found.finding)
    node.signer = signer_of(found.finding)
    if found.content is None:
        return node
    node.words = f"what was asked, {len(found.content)} bytes"
    if digest_of(found.content) != result.request:
        node.broken("it is another request than the name of the result says: its digest differs")
    return node
