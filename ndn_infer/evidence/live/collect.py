"""Collecting: everything that an answer rests on, fetched by name into a bundle, every packet verified as it comes.

Owns: which names are asked for, at whom, and what is done where one cannot be had: it is left out, and the tree says
so. Must not know: what is right about any of it (evidence/explain.py judges), terminals.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from ndn_infer import clock, ndn, records
from ndn_infer.errors import BadName, BadPacket, BadRecord, MissingKey, NdnInferError
from ndn_infer.evidence import answer as answers
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.answer import AnswerClaim
from ndn_infer.evidence.answers import StreamName
from ndn_infer.evidence.bundle import BundleNote, EvidenceBundle
from ndn_infer.evidence.cited import cite_request
from ndn_infer.evidence.context import MAX_CONTEXT, Context
from ndn_infer.evidence.explain import BLOCK_TOKENS
from ndn_infer.namespace import (
    Call,
    CallClass,
    CatalogRecord,
    Evidence,
    KvBlock,
    Result,
    TokenBlock,
    function_prefix,
)
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import decode_data
from ndn_infer.node.node import Node
from ndn_infer.records import CallAnswer, GenerateRequest, Record, TokenEvent, Tokens
from ndn_infer.records.cite import CITE, SUBJECT, Citations
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.security import certificate as certs
from ndn_infer.security.domain_store import DomainStore
from ndn_infer.security.domains import (
    PUBLIC,
    Domain,
    DomainEpoch,
    find_epoch,
    is_sealed_request,
    parse_request,
)
from ndn_infer.security.revocation import LIST_ID, LIST_KIND
from ndn_infer.together import both, together
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.asking import Answered
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.wire.manifest import ObjectPackets

log = logging.getLogger(__name__)

CHECK_S: Final = 3.0
"""The check of citations is waited for so long: not every network offers it."""
AT_ONCE: Final = 16
"""Objects that are asked for at one time."""


def domain_of(node: Node, label: str) -> Domain:
    """The domain of this label. Raises MissingKey for a tenant domain whose key is not here."""
    return PUBLIC if label == PUBLIC.label else find_epoch(DomainStore(node.config.keys_dir).tenants(), label)


@dataclass(slots=True, eq=False)
class Collector:
    """Collects for one answer. `caller` asks tokenize again what was asked: equal calls have equal answers."""

    node: Node
    caller: Caller
    bundle: EvidenceBundle
    refused: list[str] = field(default_factory=list)
    """What came and was not believed, in words."""
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    @classmethod
    def of(cls, node: Node, caller: Caller, note: BundleNote, known: Iterable[bytes] = ()) -> Collector:
        """`known` are packets that are here already: of a context record that was kept."""
        bundle = EvidenceBundle(replace(note, made_us=clock.wall_us()))
        bundle.add(*known)
        node.validator.add_certificates(*node.keychain.certificates())  # our own need not be fetched
        return cls(node, caller, bundle)

    async def collect(self) -> EvidenceBundle:
        """All that can be had. Raises BadName, UsageError for a stream that is none."""
        stream = StreamName.of(self.node.net, self.bundle.note.stream)
        result, places = stream.result, self._places(self.bundle.note.producer)
        await self.object(stream.base, stream.version, places=places)
        asked = await self.object(result.asked().to_name(self.node.net), places=places)
        said = await self._record(stream, places)
        context = await self._context(said)
        model = CatalogRecord("model", result.subject).to_name(self.node.net)
        revoked = CatalogRecord(LIST_KIND, LIST_ID).to_name(self.node.net)
        objects = together((self.object(model), self.object(revoked)))
        inputs = together((
            self._kv(said), self._passages(context), self._prompt(stream, asked, context, said),
            self._citations(stream, context),
        ))  # fmt: skip
        await both(objects, inputs)
        await self.certificates()
        return self.bundle

    async def collect_result(self, result: Result) -> EvidenceBundle:
        """The same of a result that is no answer of a model."""
        names = [result.to_name(self.node.net), result.record().to_name(self.node.net)]
        names += [result.asked().to_name(self.node.net), CatalogRecord(LIST_KIND, LIST_ID).to_name(self.node.net)]
        await together([self.object(name) for name in names])
        await self.certificates()
        return self.bundle

    # ------------------------------------------------------------ objects

    async def object(
        self, base: Name, version: int | None = None, *, places: Iterable[tuple[Name, ...]] = ((),), whole: bool = True
    ) -> bytes | None:  # fmt: skip
        """The packets of an object into the bundle (of one whose manifest has it all, that alone); its content. None
        where it cannot be had."""
        here = self.bundle.newest(base, version)
        if here is not None:
            return None
        for hints in places:
            async with self._room:
                content = await self._fetched(base, version, hints, whole)
            if content is not None:
                return content
        return None

    async def _fetched(self, base: Name, version: int | None, hints: tuple[Name, ...], whole: bool) -> bytes | None:
        fetcher = self.node.fetcher
        try:
            found = await fetcher.discover(base, version=version, hints=hints, patient=False)
            if found.manifest is None:
                return None
            if not whole or found.manifest.inline is not None:
                self.bundle.add(found.data.wire)
                return found.manifest.inline if found.manifest.inline is not None else b""
            packets = await fetcher.packets(found, most=self.bundle.room, hints=hints)
            self.bundle.add(packets.metadata, *packets.packets.values())
            return packets.content()
        except NdnInferError as error:
            self._left_out(base, error)
            return None

    def _left_out(self, name: Name, error: NdnInferError) -> None:
        log.info("%s cannot be had: %s", ndn.to_uri(name), error)
        if error.exit_code == 4:
            self.refused.append(f"{ndn.to_uri(name)}: {error}")

    def _places(self, *identities: str) -> list[tuple[Name, ...]]:
        """Where the network leads to, then at these identities."""
        places: list[tuple[Name, ...]] = [()]
        for uri in filter(None, identities):
            try:
                places.append((ndn.from_uri(uri),))
            except BadName:
                continue
        return places

    # ------------------------------------------------------------ what the answer says

    async def _record(self, stream: StreamName, places: list[tuple[Name, ...]]) -> AnswerClaim | None:
        """What the answer's record says, where there is one. Its producer lets those wait who ask while it is made."""
        base = stream.result.record().to_name(self.node.net)
        content = await self.object(base, stream.version, places=places)
        try:
            return None if content is None else answers.decode(self._opened(base, content))[0]
        except NdnInferError as error:
            self._left_out(base, error)
            return None

    def _opened(self, base: Name, content: bytes) -> bytes:
        """Clear bytes of a record that is sealed in one of our domains, or in none."""
        if content[:1] != b"\x01":
            return content
        for tenant in DomainStore(self.node.config.keys_dir).tenants():
            for epoch in reversed(tenant.epochs):
                try:
                    return epoch.open(base, content)
                except NdnInferError:
                    continue
        raise MissingKey("it is sealed in a domain whose key is not here")

    async def _context(self, said: AnswerClaim | None) -> Context | None:
        uri = self.bundle.note.context or (said.context if said is not None else "")
        if not uri:
            return None
        try:
            base, _ = ndn.split_version(ndn.from_uri(uri))
            named = Evidence.parse(self.node.net, base)
            if named is None:
                return None
            identity = ndn.to_uri(ndn.prefix(base, -4))
            content = await self.object(base, places=self._places(identity)) or self._kept(base)
            clear = domain_of(self.node, named.domain).open(base, content)
            envelope = dsse.decode(clear, MAX_CONTEXT)
            return Context.of(statement.decode(envelope.payload, MAX_CONTEXT))
        except NdnInferError as error:
            log.info("the context record %s cannot be read: %s", uri, error)
            return None

    def _kept(self, base: Name) -> bytes:
        """The content of an object that is in the bundle already. Raises BadPacket."""
        metadata = self.bundle.newest(base)
        if metadata is None:
            raise BadPacket(f"{ndn.to_uri(base)} is not here")
        return ObjectPackets.of([metadata, *self.bundle.below(base + ndn.version(_version(metadata.name)))]).content()

    # ------------------------------------------------------------ inputs

    async def _kv(self, said: AnswerClaim | None) -> None:
        wanted = []
        for block in said.kv_blocks if said is not None else ():
            base, _ = _split(block.uri)
            if KvBlock.parse(self.node.net, base) is not None:
                places = self._places(block.signer, self.bundle.note.producer)
                wanted.append(self.object(base, block.version or None, places=places, whole=False))
        await together(wanted)

    async def _passages(self, context: Context | None) -> None:
        names = [ndn.from_uri(use.uri) for use in context.passages] if context is not None else []
        names += [ndn.from_uri(one.uri) for one in context.corpora] if context is not None else []
        await together([self.object(base) for base in names])

    async def _prompt(
        self, stream: StreamName, asked: bytes | None, context: Context | None, said: AnswerClaim | None
    ) -> None:
        """Token blocks of the prompt, the answer of tokenize to the text, and the bytes of its ids where passages are
        in it."""
        request, domain = self._request(stream, asked, said)
        if request is None or domain is None:
            return
        ids = request.prompt[: len(request.prompt) - request.answered]
        size, model = context.block_tokens if context is not None else BLOCK_TOKENS, stream.result.subject
        values = domain.chain_values(ids, size or BLOCK_TOKENS)
        bases = [TokenBlock(model, domain.label, value.hex()).to_name(self.node.net) for value in values]
        places = self._places(self.bundle.note.producer)
        await together([self.object(base, places=places) for base in bases])
        if context is not None and domain.label == PUBLIC.label:
            await self._asked_again(("model", model), "tokenize", context.asked, Tokens)
            if any(use.span for use in context.passages):
                await self._asked_again(("model", model), "detokenize", DetokenizeRequest(ids, True, True), Text)

    async def _citations(self, stream: StreamName, context: Context | None) -> None:
        """The check of the answer's citations, where it was made in the open."""
        try:
            events = [records.decode(TokenEvent, content) for content in self._segments(stream)]
        except BadRecord:  # sealed, or broken: the tree says which
            return
        request = None if context is None else cite_request(context, "".join(event.text for event in events))
        if request is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._asked_again(SUBJECT, CITE, request, Citations)

    def _segments(self, stream: StreamName) -> Iterator[bytes]:
        for number in itertools.count():
            data = self.bundle.data(stream.name + ndn.segment(number))
            if data is None:
                return
            yield data.content

    def _request(
        self, stream: StreamName, asked: bytes | None, said: AnswerClaim | None
    ) -> tuple[GenerateRequest | None, Domain | None]:  # fmt: skip
        try:
            if asked is None or not is_sealed_request(asked):
                return (None, None) if asked is None else (records.decode(GenerateRequest, asked), PUBLIC)
            sealed, result = parse_request(asked), stream.result
            epoch = domain_of(self.node, sealed.domain)
            caller = self._identity_of_context() or (ndn.from_uri(said.caller) if said is not None else b"")
            assert isinstance(epoch, DomainEpoch)
            prefix = function_prefix(self.node.net, result.subject_kind, result.subject, result.function)
            return records.decode(GenerateRequest, epoch.open_request(prefix, caller, sealed)), epoch
        except NdnInferError as error:
            self._left_out(stream.name, error)
            return None, None

    def _identity_of_context(self) -> Name:
        base, _ = _split(self.bundle.note.context)
        return ndn.prefix(base, -4) if base else b""

    async def _asked_again(
        self, subject: tuple[str, str], function: str, request: Record, cls: type[Record]
    ) -> None:  # fmt: skip
        digest = hashlib.sha256(records.encode(request)).hexdigest()
        ask = Ask(subject, function, request)
        call = Call(*subject, function, CallClass.SHARED, digest)
        kept = next(iter(self.bundle.below(call.to_name(self.node.net))), None)
        try:
            if kept is None:
                answers: list[Answered] = []
                await self.caller.call(ask, cls, on_answer=answers.append)
                self.bundle.add(answers[-1].how.wire)
                answer, hint = answers[-1].answer, answers[-1].hint
            else:
                answer = records.decode(CallAnswer, kept.content)
                hint = ndn.from_uri(answer.hint) if answer.hint else b""
            places: list[tuple[Name, ...]] = [(hint,), ()] if hint else [()]
            if answer.result:
                await self.object(call.result().to_name(self.node.net), places=places)
            await self.object(call.result().record().to_name(self.node.net), places=places)
        except NdnInferError as error:
            self._left_out(call.to_name(self.node.net), error)

    # ------------------------------------------------------------ keys

    async def certificates(self) -> None:
        """The certificates of all who signed, up to the anchor, which stays out."""
        validator = self.node.validator
        for wire in list(self.bundle.packets.values()):
            data = decode_data(wire)
            locator = data.signature_info.key_locator or b""
            located = certs.split_locator(locator)
            if located is None or validator.certified(located.key_name) is not None:
                continue
            try:
                await validator.validate(data)
            except NdnInferError as error:
                self._left_out(data.name, error)
        locators = {decode_data(wire).signature_info.key_locator or b"" for wire in self.bundle.packets.values()}
        for locator in sorted(locators - {b""}):
            await self._chain(locator)

    async def _chain(self, locator: Name) -> None:
        for _ in range(self.node.config.trust.max_chain_depth):
            located = certs.split_locator(locator)
            if located is None or located.identity == self.node.net:
                return
            certificate = self.node.validator.certified(located.key_name)
            if certificate is None:
                return
            self.bundle.add(certificate.wire)
            locator = certificate.issuer_locator


def _split(uri: str) -> tuple[Name, int | None]:
    try:
        return ndn.split_version(ndn.from_uri(uri)) if uri else (b"", None)
    except BadName:
        return b"", None


def _version(metadata: Name) -> int:
    return ndn.component_number(ndn.components(metadata)[-2], ndn.VERSION)
