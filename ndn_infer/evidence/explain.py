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
      citations           which of them it cites, where that was checked
      KV block ...        whoever computed the KV of the prompt, as far as the record says
      model               what the operator says of the model
      key ...             every key met, up to the anchor; the operator's deny list
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadName, MissingKey
from ndn_infer.evidence.answer import AnswerClaim
from ndn_infer.evidence.answers import JudgedAnswer, JudgedRequest, StreamName, judge_answer, judge_request
from ndn_infer.evidence.bundle import EvidenceBundle
from ndn_infer.evidence.cited import citations_node
from ndn_infer.evidence.judge import Finding, Judge, JudgedKey, JudgedObject, State, Trust, signer_of
from ndn_infer.evidence.node import EvidenceNode, Explanation
from ndn_infer.evidence.prompts import JudgedContext, PromptParts, check_context, judge_context
from ndn_infer.evidence.said_of_answer import judge_record, kv_nodes, record_node
from ndn_infer.evidence.shared_call import decoded
from ndn_infer.namespace import CatalogRecord
from ndn_infer.records import GenerateRequest, ModelRecord
from ndn_infer.security.certificate import format_time
from ndn_infer.security.domains import PUBLIC

BLOCK_TOKENS: Final = 16
"""Ids of a token block, where no context record says so."""
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
    root.parts += [*key_nodes(judge), deny_list_node(denied)]
    expired = tuple(ndn.to_uri(key.name) for key in judge.keys if key.finding.expired)
    return _Judgement(Explanation(root, trust.now, bundle_notes(judge)), expired)


class _Explaining:
    """One answer; its nodes are made in an order in which each knows what it needs."""

    def __init__(self, judge: Judge, stream: StreamName, context: str) -> None:
        self._judge = judge
        self._stream = stream
        self._context_uri = context

    async def tree(self) -> EvidenceNode:
        judge, stream = self._judge, self._stream
        context = await judge_context(judge, self._context_uri)
        request = await judge_request(judge, stream, context.identity)
        record = await judge_record(judge, stream, request.domain)
        if record.said is not None:
            if not self._context_uri and record.said.context:
                context = await judge_context(judge, record.said.context)
            caller = context.identity or _name(record.said.caller)
            request = await judge_request(judge, stream, caller)
        answer = await judge_answer(judge, stream, request.domain)
        root = _answer_node(stream, answer, request.said)
        root.parts.append(record_node(stream, record, answer, request))
        root.parts.append(_request_node(request))
        root.parts += await self._prompt(request, context, answer.text)
        root.parts += await self._kv(record.said, request, context)
        root.parts.append(await self._model())
        return root

    async def _prompt(self, request: JudgedRequest, context: JudgedContext, text: str) -> list[EvidenceNode]:
        """Of the prompt, and of the check of its passages against the answer's `text`."""
        judge, stream, ids = self._judge, self._stream, _ids(request)
        check_context(context, stream.result.request, ids, judge)
        node = EvidenceNode("prompt", ndn.to_uri(request.name), State.VERIFIED)
        node.parts.append(context.node)
        if ids is None:
            node.take(Finding(request.finding.state, "its ids are in the request, which cannot be read"))
            return [node]
        node.words, node.facts["ids"] = f"{len(ids)} ids", list(ids)
        parts = PromptParts(judge, stream.result.subject, ids, context)
        blocks = await parts.blocks(judge.domain(request.domain), _block_tokens(context))
        sides = [await parts.tokenization(), await parts.read_pieces()]
        node.parts[:0] = [*blocks, *(one for one in sides if one is not None)]
        context.node.parts += await parts.passages()
        cited = None if context.said is None else await citations_node(judge, context.said, text, parts.texts)
        return [node] if cited is None else [node, cited]

    async def _kv(
        self, said: AnswerClaim | None, request: JudgedRequest, context: JudgedContext
    ) -> list[EvidenceNode]:  # fmt: skip
        if said is None:
            return []
        try:
            domain, ids = self._judge.domain(request.domain), _ids(request)
        except MissingKey:
            domain, ids = PUBLIC, None
        return await kv_nodes(self._judge, said, domain, ids, _block_tokens(context))

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


def key_nodes(judge: Judge) -> list[EvidenceNode]:
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


def deny_list_node(found: JudgedObject) -> EvidenceNode:
    """Not every network has one: where none is here, nothing is missing."""
    node = EvidenceNode("deny list", ndn.to_uri(found.base), State.VERIFIED, signer=signer_of(found.finding))
    if found.finding.state is State.MISSING:
        node.words = "none is here: no key of this answer is known to be revoked"
        return node
    node.take(found.finding)
    node.words = "keys that the operator revoked; none of this answer's keys is among those that verify"
    return node


def bundle_notes(judge: Judge) -> tuple[str, ...]:
    """What was found of the bundle itself, when all of the tree was judged."""
    notes = [f"the bundle is damaged: {words}" for words in judge.bundle.unreadable]
    if judge.bundle.lacking:
        notes.append(f"the bundle lacks {judge.bundle.lacking} of the packets that it was made with")
    return (*notes, *_notes_of_no_use(judge))


def _notes_of_no_use(judge: Judge) -> list[str]:
    """Packets that nothing of this answer leads to: of another one, or renamed."""
    names = sorted(judge.bundle.packets.keys() - judge.used)
    shown = [f"no part of this answer: {ndn.to_uri(name)}" for name in names[:_SHOWN]]
    return [*shown, f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else shown


def _ids(request: JudgedRequest) -> tuple[int, ...] | None:
    """Of the prompt, without what an answer that broke off had said."""
    said = request.said
    return None if said is None else said.prompt[: len(said.prompt) - said.answered]


def _block_tokens(context: JudgedContext) -> int:
    return (context.said.block_tokens if context.said is not None else 0) or BLOCK_TOKENS


def _name(uri: str) -> bytes:
    try:
        return ndn.from_uri(uri) if uri else b""
    except BadName:
        return b""
