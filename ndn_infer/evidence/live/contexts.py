"""Making context records: what a client sent, signed by its role key, after the answer or before its call.

Owns: how a record is made of an answer and of what its prompt was made of. Must not know: how it is kept (kept.py), who
reads it, terminals. Nothing of it can change an answer, or fail it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from ndn_infer import clock, ndn, records
from ndn_infer.client import Answer, Prompted, passage_places
from ndn_infer.errors import BadRecord, NdnInferError
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.answer import ids_digest
from ndn_infer.evidence.bundle import BundleNote
from ndn_infer.evidence.context import CORPUS, MODEL, REQUEST, TOKENIZE, Context, PassageUse
from ndn_infer.evidence.live.collect import domain_of
from ndn_infer.evidence.spans import spans_in
from ndn_infer.evidence.statement import Resource
from ndn_infer.namespace import CatalogRecord, Evidence, Passage, RequestObject, Result, Role
from ndn_infer.ndn.name import Name
from ndn_infer.node.node import Node
from ndn_infer.records import CorpusRecord
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.asking import Answered
from ndn_infer.wire.manifest import LASTING_FRESHNESS_MS, ObjectPackets, build_object

log = logging.getLogger(__name__)

TOPIC: Final = "context"


@dataclass(frozen=True, slots=True)
class MadeContext:
    """A context record as an object. `note` says what it is about; `also` are packets that it is checked by: the
    answers that turned text into ids and ids into text."""

    uri: str
    object: ObjectPackets
    note: BundleNote
    also: tuple[bytes, ...] = ()

    @property
    def wires(self) -> tuple[bytes, ...]:
        """All its packets; of one whose manifest has it all, that alone."""
        below = () if self.object.manifest.inline is not None else tuple(self.object.packets.values())
        return (self.object.metadata, *below, *self.also)


async def context_of(node: Node, signer: Signer, answer: Answer) -> MadeContext | None:
    """The record of what an answer is asked with, signed by `signer`; None where its prompt was given as ids. After the
    answer has begun it names the requests. Raises BadRecord for what no record holds, MissingKey for a domain whose key
    is gone."""
    prompted = answer.prompted or answer.conversation.prompted
    if prompted is None or prompted.ids != answer.prompt_ids:
        return None
    requests = tuple(_request_of(node.net, uri) for uri in answer.streams)
    also = [prompted.answered.how.wire] if answer.conversation.domain == PUBLIC.label else []
    uses, text = await _uses(answer, prompted)
    corpora = await _corpora(node, uses)
    also += [text.how.wire] if text is not None else []
    context = replace(_context(node, answer, prompted, requests), passages=uses, corpora=corpora)
    made = _object(node, signer, answer.conversation.domain, context)
    uri = ndn.to_uri(made.base)
    return MadeContext(uri, made, note_of(answer, uri), tuple(wire for wire in also if wire))


def note_of(answer: Answer, context: str) -> BundleNote:
    """What a bundle of this answer begins with."""
    return BundleNote(answer.stream_name, context, ndn.to_uri(answer.by) if answer.by else "", clock.wall_us())


def _context(node: Node, answer: Answer, prompted: Prompted, requests: tuple[Resource, ...]) -> Context:
    block, model = node.config.engine.block_tokens, answer.model.digest
    values = domain_of(node, answer.conversation.domain).chain_values(prompted.ids, block)
    digest = hashlib.sha256(records.encode(prompted.request)).hexdigest()
    tokenize = RequestObject("model", model, "tokenize", digest).to_name(node.net)
    catalogue = CatalogRecord("model", model).to_name(node.net)
    return Context(
        ids_digest(prompted.ids), requests, model, prompted.request, Resource(ndn.to_uri(tokenize), digest, TOKENIZE),
        Resource(ndn.to_uri(catalogue), name=MODEL), len(prompted.ids), block,
        tuple(value.hex() for value in values),
    )  # fmt: skip


def _request_of(net: Name, stream: str) -> Resource:
    """The request object of a stream. Raises BadRecord for a name of another kind."""
    result = Result.parse(net, ndn.split_version(ndn.from_uri(stream))[0])
    if result is None:
        raise BadRecord(f"{stream} is not the name of an answer")
    return Resource(ndn.to_uri(result.asked().to_name(net)), result.request, REQUEST)


def _object(node: Node, signer: Signer, domain: str, context: Context) -> ObjectPackets:
    envelope = dsse.encode(dsse.sign(statement.encode(context.statement()), signer))
    role = Role.parse(node.net, signer.identity)
    assert role is not None
    content = hashlib.sha256(envelope).hexdigest()
    base = Evidence(role.site, role.node, role.role, domain, TOPIC, content).to_name(node.net)
    sealed = domain_of(node, domain).seal(base, envelope)
    return build_object(base, clock.wall_us(), sealed, signer.sign_data, freshness_ms=LASTING_FRESHNESS_MS)


# ------------------------------------------------------------ passages


async def _uses(answer: Answer, prompted: Prompted) -> tuple[tuple[PassageUse, ...], Answered | None]:
    """What became of each passage, and the answer that gave the bytes of the prompt's ids."""
    if not answer.cited:
        return (), None
    messages = prompted.request.messages
    at = max((number for number, message in enumerate(messages) if message.role == "user"), default=0)
    places, message = passage_places(answer.cited), messages[at].content
    text, answered = await _text_of(answer, prompted.ids)
    spans = (
        spans_in(text.pieces, message, places)
        if text is not None
        else ["the text of the ids cannot be had"] * len(places)
    )
    uses = []
    for item, place, span in zip(answer.cited, places, spans, strict=True):
        sha256 = ndn.component_value(ndn.components(ndn.from_uri(item.name))[-1]).decode("ascii", "replace")
        known = None if isinstance(span, str) else span
        uses.append(PassageUse(item.name, sha256, at, place, known, "" if known else str(span)))
    return tuple(uses), answered


async def _corpora(node: Node, uses: Iterable[PassageUse]) -> tuple[Resource, ...]:
    """What the operator says of the corpora of these passages. Not every corpus has a record: one look is enough."""
    named = (Passage.parse(node.net, ndn.from_uri(use.uri)) for use in uses)
    found = []
    for digest in dict.fromkeys(one.corpus for one in named if one is not None):
        base = CatalogRecord("corpus", digest).to_name(node.net)
        try:
            record = await node.fetcher.discover(base, patient=False)
            if record.manifest is not None:
                content = (await node.fetcher.collect(record, most=records.most_bytes(CorpusRecord))).content
                found.append(Resource(ndn.to_uri(base), hashlib.sha256(content).hexdigest(), CORPUS))
        except NdnInferError as error:
            log.info("no record of corpus %s: %s", digest[:16], error)
    return tuple(found)


async def _text_of(answer: Answer, ids: tuple[int, ...]) -> tuple[Text | None, Answered | None]:
    answers: list[Answered] = []
    ask = Ask(
        ("model", answer.model.digest), "detokenize", DetokenizeRequest(ids, True, True), answer.conversation.domain
    )
    try:
        text = await answer.conversation.caller.call(ask, Text, on_answer=answers.append)
    except NdnInferError as error:
        log.info("no spans of passages: %s", error)
        return None, None
    return (text, answers[-1]) if len(text.pieces) == len(ids) else (None, None)
