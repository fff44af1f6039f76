"""Explaining an answer: the tree from its stream to whoever vouches for each thing it rests on. Pure over a bundle.

Owns: which nodes the tree has, in which order, and what the record of an answer must agree with. Must not know: how
packets are fetched, how the tree is printed (words.py).

    answer                the stream: who decoded it, in which engine class, when
      answer record       what its producer says that it was made of
      request             what was asked, with the digest that is in the stream's name
      prompt              its ids
        token block ...   whoever turned the text into ids
        tokenization      that these are the ids of that text
        context           the text, signed by whoever asked
          passage ...     those that are in the text, with the ids that each became; corpus
      KV block ...        whoever computed the KV of the prompt, as far as the record says
      model               what the operator says of the model
      key ...             every key met, up to the anchor; the operator's deny list
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadName, BadRecord
from ndn_infer.evidence.answers import JudgedAnswer, JudgedRequest, StreamName, judge_answer, judge_request
from ndn_infer.evidence.bundle import EvidenceBundle
from ndn_infer.evidence.claims import JudgedClaim, judge_claim
from ndn_infer.evidence.judge import Finding, Judge, JudgedKey, JudgedObject, State, Trust
from ndn_infer.evidence.node import EvidenceNode, Explanation
from ndn_infer.evidence.prompts import JudgedContext, PromptParts, check_context, decoded, judge_context, signer_of
from ndn_infer.evidence.statement import ANSWER, Resource, Statement
from ndn_infer.namespace import CatalogRecord, Evidence, KvBlock
from ndn_infer.records import GenerateRequest, ModelRecord
from ndn_infer.security.certificate import format_time

BLOCK_TOKENS: Final = 16
"""Ids of a token block, where no context record says so."""
MAX_RECORD: Final = 8 << 20
MAX_KV: Final = 1 << 14
_SHOWN: Final = 4


async def explain(bundle: EvidenceBundle, stream: str, trust: Trust, *, context: str = "") -> Explanation:
    """The tree of the answer whose stream has this name (URI), out of what lies in `bundle`. `context`: the URI of the
    context record, where the reader knows it; else it is the one that the answer's record or the bundle names.

    Certificates are judged at the time of `trust`; where some have ended since, at the time of the answer, and a note
    says so. Raises BadName, UsageError for a name of anything else, TrustError for an anchor of no use.
    """
    found = await _explain(bundle, stream, trust, context)
    if not found.expired:
        return found.explanation
    then = StreamName.of(trust.schema.net, stream).version / 1e6
    again = await _explain(bundle, stream, replace(trust, now=then), context)
    if again.expired or again.explanation.state is State.BROKEN:
        return found.explanation
    note = f"certificates are judged as of {format_time(then)}, the time that the answer says it was made"
    said = again.explanation
    return replace(said, notes=(*said.notes, note, *(f"ended since: {name}" for name in found.expired)))


@dataclass(frozen=True, slots=True)
class _Judgement:
    explanation: Explanation
    expired: tuple[str, ...]


async def _explain(bundle: EvidenceBundle, uri: str, trust: Trust, context: str) -> _Judgement:
    judge = Judge(bundle, trust)
    stream = StreamName.of(judge.net, uri)
    denied = await judge.heed_revocations()
    whole = _Explaining(judge, stream, context or bundle.note.context)
    root = await whole.tree()
    root.parts += [*_keys(judge), _deny_list(denied)]
    notes = [f"the bundle is damaged: {words}" for words in bundle.unreadable]
    if bundle.lacking:
        notes.append(f"the bundle lacks {bundle.lacking} of the packets that it was made with")
    notes += _of_no_use(judge)
    expired = tuple(ndn.to_uri(key.name) for key in judge.keys if key.finding.expired)
    return _Judgement(Explanation(root, trust.now, tuple(notes)), expired)


class _Explaining:
    """One answer; its nodes are made in an order in which each knows what it needs."""

    def __init__(self, judge: Judge, stream: StreamName, context: str) -> None:
        self._judge = judge
        self._stream = stream
        self._context_uri = context

    async def tree(self) -> EvidenceNode:
        judge, stream = self._judge, self._stream
        base = stream.result.record().to_name(judge.net)
        context = await judge_context(judge, self._context_uri)
        request = await judge_request(judge, stream, context.identity)
        claim = await judge_claim(judge, base, request.domain, most=MAX_RECORD, version=stream.version)
        named = _context_in(judge, claim.said)
        if not self._context_uri and named:
            context = await judge_context(judge, named)
            request = await judge_request(judge, stream, context.identity)
        answer = await judge_answer(judge, stream, request.domain)
        root = _answer_node(stream, answer, request.said)
        root.parts.append(_record_node(stream, answer, claim, base))
        root.parts.append(_request_node(request))
        root.parts.append(await self._prompt(request, context))
        root.parts += await self._kv(claim.said)
        root.parts.append(await self._model())
        return root

    async def _prompt(self, request: JudgedRequest, context: JudgedContext) -> EvidenceNode:
        judge, said, stream = self._judge, request.said, self._stream
        ids = None if said is None else said.prompt[: len(said.prompt) - said.answered]
        check_context(context, stream.result.request, ids, judge)
        node = EvidenceNode("prompt", ndn.to_uri(request.name), State.VERIFIED)
        node.parts.append(context.node)
        if ids is None:
            node.take(Finding(request.finding.state, "its ids are in the request, which cannot be read"))
            return node
        node.words, node.facts["ids"] = f"{len(ids)} ids", list(ids)
        parts = PromptParts(judge, stream.result.subject, ids, context)
        size = context.said.block_tokens if context.said is not None else 0
        blocks = await parts.blocks(judge.domain(request.domain), size or BLOCK_TOKENS)
        text = [await parts.tokenization(), await parts.read_pieces()]
        node.parts[:0] = [*blocks, *(one for one in text if one is not None)]
        context.node.parts += await parts.passages()
        return node

    async def _kv(self, said: Statement | None) -> list[EvidenceNode]:
        """A node for each block of KV that the answer's record names: its signed manifest."""
        nodes: list[EvidenceNode] = []
        for resource in _inputs(said):
            base, version = _split(resource.uri)
            block = KvBlock.parse(self._judge.net, base)
            if block is None or len(nodes) >= MAX_KV:
                continue
            found = await self._judge.object(base, version, whole=False)
            node = EvidenceNode("KV block", resource.uri, State.VERIFIED, signer=signer_of(found.finding))
            node.take(found.finding)
            source = resource.annotations.get("source", "")
            node.words = f"keys and values of one block, {source or 'source not told'}"
            node.facts |= {"codec": block.codec, "source": source}
            nodes.append(node)
        return nodes

    async def _model(self) -> EvidenceNode:
        digest = self._stream.result.subject
        base = CatalogRecord("model", digest).to_name(self._judge.net)
        node = EvidenceNode("model", ndn.to_uri(base), State.VERIFIED, "what the operator says of the model")
        found = await self._judge.object(base)
        node.take(found.finding)
        node.signer = signer_of(found.finding)
        record = decoded(node, ModelRecord, found.content)
        if record is not None and record.digest != digest:
            node.broken("it is about another model")
        elif record is not None:
            node.words = f"{record.alias} ({record.architecture}), weights and tokenizer {digest[:16]}"
            node.facts |= {"alias": record.alias, "digest": digest, "source": record.source}
        return node


# ------------------------------------------------------------ nodes


def _answer_node(stream: StreamName, answer: JudgedAnswer, request: GenerateRequest | None) -> EvidenceNode:
    node = EvidenceNode("answer", ndn.to_uri(stream.name), State.VERIFIED)
    node.take(answer.finding)
    node.signer = ndn.to_uri(ndn.prefix(answer.signer, -2)) if answer.signer else ""
    made = format_time(stream.version / 1e6)
    node.facts |= {"made": made, "sha256": answer.digest, "bytes": answer.size}
    if answer.events:
        last = answer.last
        finish = last.finish if last is not None else ""
        engine = request.engine if request is not None else ""
        node.words = f"{len(answer.ids)} ids ({finish}), made {made}{f' in engine class {engine}' if engine else ''}"
        node.facts |= {"text": answer.text, "ids": list(answer.ids), "finish": finish, "engine": engine}
    return node


def _record_node(stream: StreamName, answer: JudgedAnswer, claim: JudgedClaim, base: bytes) -> EvidenceNode:
    """The record agrees with the stream, and its signer is the stream's."""
    node = EvidenceNode("answer record", ndn.to_uri(base), State.VERIFIED, "what its producer says of it")
    node.take(claim.finding)
    node.signer = signer_of(claim.finding)
    if claim.said is None:
        return node
    subject = claim.said.subject[0]
    if claim.said.predicate_type != ANSWER or subject.uri != ndn.to_uri(stream.name):
        node.broken("it is about something else than this answer")
    elif answer.digest and subject.sha256 != answer.digest:
        node.broken("it is about an answer with other bytes: the digest differs")
    elif answer.signer and claim.finding.key and _identity(claim.finding.key) != _identity(answer.signer):
        node.broken("somebody else signed it than the answer")
    else:
        names = [resource.name or "input" for resource in _inputs(claim.said)]
        node.words = f"it says the same, and names {len(names)} inputs"
        node.facts["inputs"] = {name: names.count(name) for name in sorted(set(names))}
    return node


def _request_node(request: JudgedRequest) -> EvidenceNode:
    node = EvidenceNode("request", ndn.to_uri(request.name), State.VERIFIED, signer=signer_of(request.finding))
    node.take(request.finding)
    said = request.said
    if said is not None:
        how = said.sampling
        kind = "greedy" if not how.temperature else f"temperature {how.temperature:g}, seed {how.seed}"
        node.words = f"{len(said.prompt)} ids of a prompt, {kind}, {how.max_tokens} tokens at most"
        node.facts |= {"max_tokens": how.max_tokens, "temperature": how.temperature, "seed": how.seed}
    return node


def _keys(judge: Judge) -> list[EvidenceNode]:
    """Each key that was met, those that vouch for others first."""
    keys = sorted(judge.keys, key=lambda key: (len(ndn.components(key.name)), key.name))
    return [_key_node(key) for key in keys]


def _key_node(key: JudgedKey) -> EvidenceNode:
    node = EvidenceNode("key", ndn.to_uri(key.name), State.VERIFIED)
    node.take(key.finding)
    certificate = key.certificate
    if certificate is None:
        return node
    until = format_time(certificate.not_after)
    if not key.issuer:
        node.words = f"the trust anchor, from this machine; valid until {until}"
    else:
        node.words = f"certified by {ndn.to_uri(ndn.prefix(key.issuer, -2))}, valid until {until}"
        node.signer = ndn.to_uri(ndn.prefix(key.issuer, -2))
    node.facts |= {"certificate": ndn.to_uri(certificate.name), "valid_until": until}
    return node


def _deny_list(found: JudgedObject) -> EvidenceNode:
    """Not every network has one: where none is here, nothing is missing."""
    node = EvidenceNode("deny list", ndn.to_uri(found.base), State.VERIFIED, signer=signer_of(found.finding))
    if found.finding.state is State.MISSING:
        node.words = "none is here: no key of this answer is known to be revoked"
        return node
    node.take(found.finding)
    node.words = "keys that the operator revoked; none of this answer's keys is among those that verify"
    return node


def _of_no_use(judge: Judge) -> list[str]:
    """Packets that nothing of this answer leads to: of another one, or renamed."""
    names = sorted(judge.bundle.packets.keys() - judge.used)
    shown = [f"no part of this answer: {ndn.to_uri(name)}" for name in names[:_SHOWN]]
    return [*shown, f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else shown


# ------------------------------------------------------------ inputs of a record


def _inputs(said: Statement | None) -> tuple[Resource, ...]:
    try:
        return () if said is None else said.inputs
    except BadRecord:
        return ()


def _context_in(judge: Judge, said: Statement | None) -> str:
    """The context record that an answer's record names, if any."""
    for resource in _inputs(said):
        named = Evidence.parse(judge.net, _split(resource.uri)[0])
        if named is not None and named.topic == "context":
            return resource.uri
    return ""


def _split(uri: str) -> tuple[bytes, int | None]:
    try:
        return ndn.split_version(ndn.from_uri(uri))
    except BadName:
        return b"", None


def _identity(key: bytes) -> bytes:
    return ndn.prefix(key, -2)
