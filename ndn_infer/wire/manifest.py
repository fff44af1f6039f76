"""Objects: bytes of any size as signed, verifiable packets, and back.

Owns: how an object is cut into segments and what its metadata packet holds. Must not know: keys (a signing function is
passed in), sockets, stores, what the bytes mean.

An object has a base name and a version. Its packets are

    <base>/v=<version>/seg=<n>                  8,000 bytes of content each, DigestSha256, FinalBlockId on every one
    <base>/32=manifest/v=<version>/seg=<i>      only when the digests do not fit below: 250 packed digests each
    <base>/32=metadata/v=<version>/seg=0        signed by its producer's key

The metadata packet is RDR discovery and the manifest in one: its content begins with the versioned Name, as RDR asks,
then FinalBlockId and Size, as NDNd writes them, then our ignorable fields: the SHA-256 of every segment packet (or of
every manifest segment), and for a small object the content itself, so that one Interest brings it verified.
Stock tools read the same objects: `ndnget`, NDNts `fetch`, `ndnd cat`. A producer that has not got the object answers
the same name with ContentType Nack and a short freshness, signed: "absent" can be believed and does not linger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, DigestMismatch
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import CONTENT_KEY, CONTENT_NACK, Data, content_span
from ndn_infer.ndn.tlv import decode_nonneg, encode_nonneg, encode_tlv
from ndn_infer.wire.segment_packets import segment_packets

SEGMENT_BYTES: Final = 8000
INLINE_BYTES: Final = 4096
DIGESTS_PER_SEGMENT: Final = SEGMENT_BYTES // 32
DIRECT_DIGESTS: Final = 200
"""Up to so many segment digests travel in the metadata packet itself."""

MAX_SEGMENTS: Final = DIGESTS_PER_SEGMENT * DIRECT_DIGESTS
MAX_OBJECT_BYTES: Final = SEGMENT_BYTES * MAX_SEGMENTS
"""400 MB: what two levels hold."""

ABSENT_FRESHNESS_MS: Final = 10
LASTING_FRESHNESS_MS: Final = 3_600_000

_FINAL_BLOCK: Final = 0x1A
_SIZE: Final = 0xF500
_SEGMENT_DIGESTS: Final = 0xF520
_MANIFEST_DIGESTS: Final = 0xF522
_INLINE: Final = 0xF524

MANIFEST: Final = ndn.keyword("manifest")


class SignData(Protocol):
    """Makes a Data packet signed by a producer's key (security.crypto.Signer.sign_data)."""

    def __call__(
        self,
        name: Name,
        content: bytes,
        *,
        freshness_ms: int = 0,
        content_type: int = 0,
        final_block: ndn.Component | None = None,
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a metadata packet says about one version of an object.

    `digests` are packed SHA-256 of segment packets, in order; empty while only `manifest_digests` (packed, of the
    second-level segments) are known. `inline` is the whole content of a small object, else None.
    """

    name: Name
    size: int
    segments: int
    digests: bytes = b""
    manifest_digests: bytes = b""
    inline: bytes | None = None

    @property
    def base(self) -> Name:
        return ndn.prefix(self.name, -1)

    @property
    def version(self) -> int:
        return ndn.last_version(self.name)

    def segment_name(self, number: int) -> Name:
        return self.name + ndn.segment(number)

    @property
    def manifest_prefix(self) -> Name:
        """What second-level segments are named below: beside the version, not below it, so that whoever asks for some
        packet of this version (CanBePrefix) never gets one of these."""
        version = ndn.components(self.name)[-1]
        return self.name[: -len(version)] + MANIFEST + version

    def manifest_name(self, number: int) -> Name:
        return self.manifest_prefix + ndn.segment(number)

    def check_segment(self, number: int, wire: bytes) -> None:
        """Raises DigestMismatch unless `wire` is exactly the packet that the producer signed for."""
        if hashlib.sha256(wire).digest() != self.digests[32 * number : 32 * number + 32]:
            raise DigestMismatch(f"segment {number} of {ndn.to_uri(self.name)} is not the one its producer signed")

    def check_manifest_segment(self, number: int, wire: bytes) -> None:
        if hashlib.sha256(wire).digest() != self.manifest_digests[32 * number : 32 * number + 32]:
            raise DigestMismatch(f"manifest segment {number} of {ndn.to_uri(self.name)} is not the signed one")

    def with_digests(self, digests: bytes) -> Manifest:
        """This manifest with the second level filled in. Raises BadPacket when it has not one digest a segment."""
        if len(digests) != 32 * self.segments:
            raise BadPacket(f"a manifest of {self.segments} segments lists {len(digests) // 32}")
        return Manifest(self.name, self.size, self.segments, digests, self.manifest_digests, self.inline)


@dataclass(frozen=True, slots=True)
class ObjectPackets:
    """All packets of one version of an object. `packets` maps full names to wires, the metadata packet apart."""

    base: Name
    manifest: Manifest
    metadata: bytes
    metadata_name: Name
    packets: dict[Name, bytes]

    @classmethod
    def of(cls, packets: Iterable[Data]) -> ObjectPackets:
        """The object whose packets these are, as they lie in a file: the metadata packet first, which the file's reader
        believes or has verified; keys of its signers may be among them. Raises BadPacket."""
        metadata, *others = packets
        manifest = decode_manifest(metadata)
        below = {data.name: data.wire for data in others if data.content_type != CONTENT_KEY}
        return cls(manifest.base, manifest, metadata.wire, metadata.name, below)

    @property
    def wire_bytes(self) -> int:
        return len(self.metadata) + sum(map(len, self.packets.values()))

    def content(self) -> bytes:
        """The whole object, out of packets that are ours or verified. Raises BadPacket when one is missing."""
        manifest = self.manifest
        if manifest.inline is not None:
            return manifest.inline
        pieces = []
        for number in range(manifest.segments):
            wire = self.packets.get(manifest.segment_name(number))
            if wire is None:
                raise BadPacket(f"{ndn.to_uri(manifest.name)} lacks segment {number}")
            start, end = content_span(wire)
            pieces.append(memoryview(wire)[start:end])
        return b"".join(pieces)


def build_object(
    base: Name, version: int, content: bytes | memoryview, sign: SignData, *, freshness_ms: int = LASTING_FRESHNESS_MS
) -> ObjectPackets:
    """Cut `content` into packets. `version` is usually microseconds of the Unix epoch.

    `freshness_ms` is the metadata packet's: how long a cache may answer discovery without asking again.
    Raises BadPacket when the content exceeds MAX_OBJECT_BYTES.
    """
    if len(content) > MAX_OBJECT_BYTES:
        raise BadPacket(f"an object of {len(content)} bytes exceeds {MAX_OBJECT_BYTES}; split it")
    name = base + ndn.version(version)
    count = max(1, -(-len(content) // SEGMENT_BYTES))
    packets: dict[Name, bytes] = {}
    digests = _cut(name, content, packets)
    manifest_digests = _second_level(base, version, digests, packets)
    inline = bytes(content) if len(content) <= INLINE_BYTES else None
    manifest = Manifest(name, len(content), count, digests, manifest_digests, inline)
    return _with_metadata(base, manifest, packets, sign, freshness_ms)


class SentSegment(NamedTuple):
    """A segment of a stream as it was sent; `size` is that of its content, in bytes."""

    name: Name
    wire: bytes
    size: int


def seal_stream(base: Name, version: int, segments: list[SentSegment], sign: SignData) -> ObjectPackets:
    """The object that a finished stream is: its own segments as they were sent, and the manifest that seals them."""
    packets = {sent.name: sent.wire for sent in segments}
    digests = b"".join(hashlib.sha256(sent.wire).digest() for sent in segments)
    size = sum(sent.size for sent in segments)
    name = base + ndn.version(version)
    manifest_digests = _second_level(base, version, digests, packets)
    manifest = Manifest(name, size, len(segments), digests, manifest_digests)
    return _with_metadata(base, manifest, packets, sign, LASTING_FRESHNESS_MS)


def _with_metadata(
    base: Name, manifest: Manifest, packets: dict[Name, bytes], sign: SignData, freshness_ms: int
) -> ObjectPackets:
    name = base + METADATA + manifest.name[len(base) :] + ndn.segment(0)
    metadata = sign(name, encode_manifest(manifest), freshness_ms=freshness_ms, final_block=ndn.segment(0))
    return ObjectPackets(base, manifest, metadata, name, packets)


def _second_level(base: Name, version: int, digests: bytes, into: dict[Name, bytes]) -> bytes:
    """Digests of the manifest segments, where there are too many digests for the metadata packet; else b""."""
    if len(digests) <= 32 * DIRECT_DIGESTS:
        return b""
    return _cut(base + MANIFEST + ndn.version(version), digests, into)


def _cut(name: Name, content: bytes | memoryview, into: dict[Name, bytes]) -> bytes:
    digests = []
    for segment, wire, digest in segment_packets(name, content, SEGMENT_BYTES, freshness_ms=LASTING_FRESHNESS_MS):
        into[segment] = wire
        digests.append(digest)
    return b"".join(digests)


def absent(base: Name, version: int, sign: SignData, nonce: bytes = b"") -> bytes:
    """A signed "this producer has no such object", which no cache keeps for long. `version` is the time of saying so;
    `nonce` that of the question, when somebody asked again (again.py)."""
    name = base + METADATA + ndn.version(version) + ndn.segment(0)
    return sign(name, nonce, freshness_ms=ABSENT_FRESHNESS_MS, content_type=CONTENT_NACK, final_block=ndn.segment(0))


def is_absent(data: Data) -> bool:
    return data.content_type == CONTENT_NACK


def said_at(data: Data) -> int:
    """The version of a metadata packet, usually microseconds of the Unix epoch. Raises BadPacket."""
    parts = ndn.components(data.name)
    if len(parts) < 3 or parts[-3] != METADATA:
        raise BadPacket(f"not a metadata packet: {ndn.to_uri(data.name)}")
    return ndn.component_number(parts[-2], ndn.VERSION)


def encode_manifest(manifest: Manifest) -> bytes:
    """Content of a metadata packet."""
    fields = [
        ndn.encode_name(manifest.name),
        encode_tlv(_FINAL_BLOCK, ndn.segment(manifest.segments - 1)),
        encode_tlv(_SIZE, encode_nonneg(manifest.size)),
    ]
    if manifest.inline is not None:
        fields.append(encode_tlv(_INLINE, manifest.inline))
    if manifest.manifest_digests:
        fields.append(encode_tlv(_MANIFEST_DIGESTS, manifest.manifest_digests))
    else:
        fields.append(encode_tlv(_SEGMENT_DIGESTS, manifest.digests))
    return b"".join(fields)


def decode_manifest(data: Data) -> Manifest:
    """The manifest in a *verified* metadata packet. Raises BadPacket.

    Also checks that the versioned name lies below the very base that was discovered: a producer may not answer for
    one name with the manifest of another.
    """
    fields = {kind: (value, after) for kind, value, after in tlv.iterate(data.content)}
    try:
        name, final, size = (data.content[slice(*fields[kind])] for kind in (tlv.NAME, _FINAL_BLOCK, _SIZE))
    except KeyError as error:
        raise BadPacket(f"metadata lacks field {error}") from error
    base = _metadata_base(data.name)
    manifest = Manifest(
        ndn.decode_name(name, 0, len(name)),
        decode_nonneg(size),
        ndn.component_number(final, ndn.SEGMENT) + 1,
        _digests(data.content, fields, _SEGMENT_DIGESTS),
        _digests(data.content, fields, _MANIFEST_DIGESTS),
        data.content[slice(*fields[_INLINE])] if _INLINE in fields else None,
    )
    tail = ndn.components(manifest.name[len(base) :]) if manifest.name.startswith(base) else []
    if len(tail) != 1 or ndn.component_type(tail[0]) != ndn.VERSION:
        raise BadPacket("metadata names an object other than its own")
    _check_shape(manifest)
    return manifest


def _check_shape(manifest: Manifest) -> None:
    """Sizes must agree with one another, before anybody allocates or asks for anything by them.

    Segments of a sealed stream are smaller than those of an object cut at once, so size only bounds from above.
    """
    level_two = -(-manifest.segments * 32 // SEGMENT_BYTES)
    listed = len(manifest.digests) == 32 * manifest.segments
    listed = listed if manifest.digests else len(manifest.manifest_digests) == 32 * level_two
    inline_fits = manifest.inline is None or len(manifest.inline) == manifest.size
    fits = manifest.size <= manifest.segments * SEGMENT_BYTES and manifest.segments <= MAX_SEGMENTS
    if not (fits and listed and inline_fits):
        raise BadPacket("metadata contradicts itself about size, segments or digests")


def _metadata_base(name: Name) -> Name:
    parts = ndn.components(name)
    if len(parts) < 3 or parts[-3] != METADATA:
        raise BadPacket(f"not a metadata packet: {ndn.to_uri(name)}")
    return b"".join(parts[:-3])


def _digests(content: bytes, fields: dict[int, tuple[int, int]], kind: int) -> bytes:
    value, after = fields.get(kind, (0, 0))
    if (after - value) % 32:
        raise BadPacket("a list of digests is cut short")
    return content[value:after]
