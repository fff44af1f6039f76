"""Bundles of evidence: all packets that an answer rests on, in one file, as they came from the network.

Owns: the file's form and its bounds, finding packets in it by name. Must not know: what any packet means, who may sign
what (judge.py), how packets are fetched.

A bundle is NDN packets one after the other and nothing else, so that any tool that reads NDN packets reads it:

    Data /32=evidence/v=1     DigestSha256; JSON: which stream it is about, how many packets follow
    Data ...                  segments, manifests, certificates: the packets themselves, unchanged

The first packet is nobody's word: it only says where to begin. No trust anchor is in a bundle that is believed: the
anchor comes from the reader's own machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import SIGNATURE_DIGEST_SHA256, Data, SignatureInfo, decode_data, digest_signer, encode_data

MAX_BUNDLE_BYTES: Final = 64 << 20
MAX_PACKETS: Final = 1 << 16
MAX_NOTE: Final = 4096
"""Bytes of the first packet's content."""

HEAD: Final = ndn.keyword("evidence") + ndn.version(1)
_FORMAT: Final = "ndn-infer evidence"


@dataclass(frozen=True, slots=True)
class BundleNote:
    """What the first packet says. `stream` is the versioned URI of the answer's stream, `context` the URI of the
    caller's context record where there is one, `producer` who made the answer (an identity's URI: whom to ask for what
    the network does not lead to), `made_us` when the bundle was made (microseconds of the Unix epoch)."""

    stream: str
    context: str = ""
    producer: str = ""
    made_us: int = 0


@dataclass(slots=True)
class EvidenceBundle:
    """Packets by full name. `unreadable` says of bytes in a file that are no NDN Data where they are; `lacking` how
    many packets its first one promises and it has not."""

    note: BundleNote
    packets: dict[Name, bytes] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    lacking: int = 0
    _metadata: dict[Name, list[int]] = field(default_factory=dict)
    """Versions of the metadata packets that are here, by their objects' names."""
    _size: int = field(init=False)

    def __post_init__(self) -> None:
        self._size = sum(map(len, self.packets.values()))

    def add(self, *wires: bytes) -> None:
        """Raises BadPacket for what is no Data, or does not fit."""
        for wire in wires:
            data = decode_data(wire)
            if len(wire) > tlv.MAX_PACKET_BYTES or len(self.packets) >= MAX_PACKETS:
                raise BadPacket(f"a bundle holds {MAX_PACKETS} packets of {tlv.MAX_PACKET_BYTES} bytes at most")
            parts = ndn.components(data.name)
            kinds = [ndn.component_type(part) for part in parts[-2:]]
            if len(parts) > 2 and parts[-3] == METADATA and kinds == [ndn.VERSION, ndn.SEGMENT]:
                version = ndn.component_number(parts[-2], ndn.VERSION)
                self._metadata.setdefault(b"".join(parts[:-3]), []).append(version)
            self._size += len(wire) - len(self.packets.get(data.name, b""))
            self.packets[data.name] = wire

    @property
    def room(self) -> int:
        """Bytes of packets that still fit a file."""
        return max(MAX_BUNDLE_BYTES - self._size, 0)

    def data(self, name: Name) -> Data | None:
        """The packet of exactly this name."""
        wire = self.packets.get(name)
        return None if wire is None else decode_data(wire)

    def below(self, prefix: Name) -> Iterator[Data]:
        """Packets below a prefix, by name."""
        for name in sorted(name for name in self.packets if name.startswith(prefix)):
            yield decode_data(self.packets[name])

    def newest(self, base: Name, version: int | None = None) -> Data | None:
        """The metadata packet of the object at `base`: of this version, or of the newest that is here."""
        newest = max(self._metadata.get(base, ()), default=0) if version is None else version
        return self.data(base + METADATA + ndn.version(newest) + ndn.segment(0))

    def encode(self) -> bytes:
        """The file. Raises BadPacket where it is larger than bundles may be."""
        note = {
            "format": _FORMAT, "version": 1, "stream": self.note.stream, "context": self.note.context,
            "producer": self.note.producer, "made_us": self.note.made_us, "packets": len(self.packets),
        }  # fmt: skip
        head = encode_data(
            HEAD, json.dumps(note, separators=(",", ":")).encode(), info=SignatureInfo(SIGNATURE_DIGEST_SHA256),
            signer=digest_signer,
        )  # fmt: skip
        whole = b"".join((head, *self.packets.values()))
        if len(whole) > MAX_BUNDLE_BYTES:
            raise BadPacket(f"a bundle of {len(whole)} bytes exceeds {MAX_BUNDLE_BYTES}")
        return whole


def read_bundle(raw: bytes) -> EvidenceBundle:
    """The bundle in a file that nobody vouches for. Raises BadPacket where its beginning is none; what is damaged
    further on is left out and told (`unreadable`, `lacking`)."""
    if len(raw) > MAX_BUNDLE_BYTES:
        raise BadPacket(f"a bundle has {MAX_BUNDLE_BYTES} bytes at most, this file {len(raw)}")
    pieces = _pieces(raw)
    note, count = _note(next(pieces, (0, b"")))
    bundle, unreadable = EvidenceBundle(note), []
    for start, wire in pieces:
        try:
            bundle.add(wire)
        except BadPacket as error:
            unreadable.append(f"bytes {start} to {start + len(wire)}: {error}")
    bundle.unreadable = tuple(unreadable)
    bundle.lacking = max(count - len(bundle.packets) - len(unreadable), 0)
    return bundle


def _pieces(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(where it begins, bytes) of every element; the last one may be a rest that is none."""
    offset = 0
    for _ in range(MAX_PACKETS + 1):
        if offset >= len(raw):
            return
        try:
            _, _, after = tlv.read_header(raw, offset, len(raw))
        except BadPacket:
            after = len(raw)
        yield offset, raw[offset:after]
        offset = after


def _note(piece: tuple[int, bytes]) -> tuple[BundleNote, int]:
    try:
        data = decode_data(piece[1])
        if data.name != HEAD or len(data.content) > MAX_NOTE or data.signature != digest_signer(data.signed_portion):
            raise BadPacket("its first packet is another one")
        return _read_note(json.loads(data.content))
    except (BadPacket, ValueError, RecursionError) as error:
        raise BadPacket(
            f"this is no bundle of evidence: {error}", hint="'ndn-infer ask --evidence FILE' makes one"
        ) from error


def _read_note(fields: Any) -> tuple[BundleNote, int]:
    """Raises BadPacket."""
    if not isinstance(fields, dict) or (fields.get("format"), fields.get("version")) != (_FORMAT, 1):
        raise BadPacket("it is of another format or version")
    stream, context, producer = (fields.get(name) for name in ("stream", "context", "producer"))
    made_us, count = fields.get("made_us"), fields.get("packets")
    if not isinstance(stream, str) or not isinstance(context, str) or not isinstance(producer, str):
        raise BadPacket("its first packet lacks a field")
    if type(made_us) is not int or type(count) is not int:
        raise BadPacket("its first packet lacks a field")
    if not 0 <= made_us < 1 << 63 or not 0 <= count <= MAX_PACKETS:
        raise BadPacket("its first packet has a number out of range")
    return BundleNote(stream, context, producer, made_us), count
