"""A published answer by name: its request, its segments, whose they are.

Owns: which objects belong to it, and that they fit together. Must not know: engines, verdicts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.errors import BadRecord, DigestMismatch, FetchIncomplete, NdnInferError, UsageError
from ndn_infer.evidence.bundle import MAX_BUNDLE_BYTES, EvidenceBundle
from ndn_infer.functions.audit.published_events import PublishedEvents
from ndn_infer.namespace import AnswerRecord, RequestObject, Result, parse_base
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import CONTENT_KEY, Data, decode_data
from ndn_infer.records import GenerateRequest, TokenEvent
from ndn_infer.security.certificate import parse
from ndn_infer.security.domains import SealedRequest, is_sealed
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.wire.manifest import ObjectPackets, decode_manifest

MAX_SEGMENTS: Final = 1 << 16
_MOST_ASKED: Final = max(records.most_bytes(GenerateRequest), records.most_bytes(SealedRequest))
"""Bytes of a request: that of a private answer is told from others when it is here."""
_HINT: Final = "name a result of 'generate': .../model/<digest>/result/generate/<request>, with or without its version"


@dataclass(frozen=True, slots=True)
class FetchedAnswer:
    """`name` has the version; `digest`: SHA-256 of the contents of its segments, in order. `segments` are Data signed
    by `signed_by`, verified."""

    name: Name
    model: str
    digest: str
    request_wire: bytes
    request: GenerateRequest
    said: PublishedEvents
    segments: tuple[Data, ...]
    signed_by: Validated

    @property
    def uri(self) -> str:
        return ndn.to_uri(self.name)


def result_of(net: Name, base: Name) -> Result:
    """The result of `generate` that this name is, or that it is the record or the request of. Raises UsageError."""
    kind = parse_base(net, base)
    if isinstance(kind, AnswerRecord):
        kind = kind.result()
    if isinstance(kind, RequestObject):
        kind = Result(kind.subject_kind, kind.subject, kind.function, kind.request)
    if not isinstance(kind, Result) or (kind.subject_kind, kind.function) != ("model", "generate"):
        raise UsageError(f"{ndn.to_uri(base)} is no answer that can be computed again", hint=_HINT)
    return kind


async def fetch_answer(
    fetcher: Fetcher, validator: Validator, base: Name, version: int | None, hints: Sequence[Name] = ()
) -> FetchedAnswer:
    """Everything that a check of it needs. Raises UsageError, FetchIncomplete, NetworkError, TrustError, BadRecord."""
    net = validator.net
    result = result_of(net, base)
    at = tuple(hints)
    found = await fetcher.discover(result.to_name(net), version=version, hints=at)
    if found.manifest is None:
        raise FetchIncomplete(f"there is no {ndn.to_uri(base)}, its producer says")
    if found.manifest.segments > MAX_SEGMENTS:
        raise BadRecord(f"an answer of {found.manifest.segments} segments is not computed again")
    packets = await fetcher.packets(found, most=MAX_BUNDLE_BYTES, hints=at)
    names = [found.manifest.segment_name(number) for number in range(found.manifest.segments)]
    segments = tuple(decode_data(packets.packets[name]) for name in names)
    wire = (await fetcher.fetch(_request_of(result).to_name(net), most=_MOST_ASKED, hints=at)).content
    signers = {(await validator.validate(segment)).identity for segment in segments}
    if signers != {found.signed_by.identity}:
        raise BadRecord(f"segments of {ndn.to_uri(found.manifest.name)} are signed by several")
    request, said = read_answer(result, bytes(wire), segments)
    digest = hashlib.sha256(b"".join(segment.content for segment in segments)).hexdigest()
    return FetchedAnswer(
        found.manifest.name, result.subject, digest, bytes(wire), request, said, segments, found.signed_by
    )  # fmt: skip


async def answer_in(bundle: EvidenceBundle, validator: Validator) -> FetchedAnswer:
    """The answer that a bundle is about, without a network. Raises UsageError, TrustError, BadRecord, DigestMismatch;
    FetchIncomplete where the bundle has not all of it."""
    net, name = validator.net, ndn.from_uri(bundle.note.stream)
    base, version = base_of(name)
    result = result_of(net, base)
    numbered = (bundle.data(name + ndn.segment(number)) for number in range(MAX_SEGMENTS))
    segments = tuple(data for data in takewhile(lambda data: data is not None, numbered) if data is not None)
    asked = _request_of(result).to_name(net)
    metadata = bundle.newest(asked)
    if version is None or metadata is None or not segments or segments[-1].final_block is None:
        raise FetchIncomplete(f"not all of {bundle.note.stream} is kept here")
    keys = [data.wire for data in bundle.below(net) if data.content_type == CONTENT_KEY]
    validator.add_certificates(*map(parse, keys))
    request = ObjectPackets.of([metadata, *bundle.below(decode_manifest(metadata).name)]).content()
    signed = [await validator.validate(segment) for segment in segments]
    if {one.identity for one in signed} != {signed[0].identity}:
        raise BadRecord(f"segments of {bundle.note.stream} are signed by several")
    asked_for, said = read_answer(result, request, segments)
    digest = hashlib.sha256(b"".join(segment.content for segment in segments)).hexdigest()
    return FetchedAnswer(name, result.subject, digest, request, asked_for, said, segments, signed[0])


def read_answer(result: Result, request: bytes, segments: Sequence[Data]) -> tuple[GenerateRequest, PublishedEvents]:
    """What verified segments and a request say. Raises DigestMismatch, BadRecord, UsageError (a private answer)."""
    if hashlib.sha256(request).hexdigest() != result.request:
        raise DigestMismatch("the request is not the one whose digest is in the answer's name")
    if any(is_sealed(segment.content) for segment in segments):
        raise UsageError("this answer is private: only members of its domain can read it, and no auditor is one")
    try:
        events = [records.decode(TokenEvent, segment.content) for segment in segments]
    except NdnInferError as error:
        raise BadRecord(f"an event of the answer cannot be read: {error}") from error
    return records.decode(GenerateRequest, request), PublishedEvents.of(events)


def _request_of(result: Result) -> RequestObject:
    return RequestObject(result.subject_kind, result.subject, result.function, result.request)


def subject_of(net: Name, name: Name) -> tuple[str, str]:
    """The model whose auditors are asked about this answer. Raises UsageError."""
    return "model", result_of(net, base_of(name)[0]).subject


def base_of(name: Name) -> tuple[Name, int | None]:
    """A name of an answer or of one of its packets, without version and segment; and the version, if it has one."""
    parts, version = ndn.components(name), None
    if parts and ndn.component_type(parts[-1]) == ndn.SEGMENT:
        parts.pop()
    if parts and ndn.component_type(parts[-1]) == ndn.VERSION:
        version = ndn.component_number(parts.pop(), ndn.VERSION)
    return b"".join(parts), version
