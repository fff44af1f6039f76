"""Objects to attack: in shapes that reach every line of the fetcher with few bytes.

Owns: how they are cut and signed. Must not know: networks, what an attack changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import decode_data, encode_data
from ndn_infer.wire.manifest import (
    MANIFEST,
    Manifest,
    ObjectPackets,
    SentSegment,
    build_object,
    encode_manifest,
    seal_stream,
)
from tests.poison_attacks import Material


def cut(base: Name, version: int, content: bytes, size: int, sign: Any, *, levels: int = 1) -> ObjectPackets:
    """An object like those of `build_object`, in segments of `size` bytes, with its manifest in one or two levels:
    small ones reach every line of the fetcher with few bytes."""
    name = base + ndn.version(version)
    packets: dict[Name, bytes] = {}

    def segments(below: Name, body: bytes, piece: int) -> bytes:
        count = -(-len(body) // piece)
        wires = [
            encode_data(
                below + ndn.segment(number),
                body[number * piece : (number + 1) * piece],
                freshness_ms=3_600_000,
                final_block=ndn.segment(count - 1),
            )
            for number in range(count)
        ]
        packets.update((below + ndn.segment(number), wire) for number, wire in enumerate(wires))
        return b"".join(hashlib.sha256(wire).digest() for wire in wires)

    digests = segments(name, content, size)
    upper = segments(base + MANIFEST + ndn.version(version), digests, 8000) if levels == 2 else b""
    manifest = Manifest(name, len(content), len(digests) // 32, digests, upper)
    metadata_name = base + METADATA + ndn.version(version) + ndn.segment(0)
    wire = sign(metadata_name, encode_manifest(manifest), freshness_ms=3_600_000, final_block=ndn.segment(0))
    return ObjectPackets(base, manifest, wire, metadata_name, packets)


def sealed(base: Name, version: int, content: bytes, size: int, sign: Any) -> ObjectPackets:
    """What a finished stream leaves: segments signed by its key, a manifest over them."""
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    name = base + ndn.version(version)
    wires = [sign(name + ndn.segment(n), piece, freshness_ms=3_600_000) for n, piece in enumerate(pieces)]
    return seal_stream(base, version, sent_segments(wires), sign)


def sent_segments(wires: list[bytes]) -> list[SentSegment]:
    return [SentSegment(data.name, data.wire, len(data.content)) for data in map(decode_data, wires)]


def all_packets(packets: ObjectPackets) -> dict[Name, bytes]:
    return {packets.metadata_name: packets.metadata, **packets.packets}


@dataclass(frozen=True)
class Target:
    """One published object: both versions that its producer ever signed."""

    base: Name
    contents: dict[Name, bytes]
    packets: ObjectPackets
    material: Material

    @property
    def newest(self) -> bytes:
        return self.contents[self.packets.manifest.name]


Build = Callable[[Name, int, bytes, Any], ObjectPackets]
SHAPES: Final[dict[str, tuple[int, Build]]] = {
    "inline": (100, build_object),
    "three": (700, lambda base, version, content, sign: cut(base, version, content, 250, sign)),
    "two-level": (700, lambda base, version, content, sign: cut(base, version, content, 150, sign, levels=2)),
    "sealed": (400, lambda base, version, content, sign: sealed(base, version, content, 100, sign)),
    "real": (17_000, build_object),
    "many": (5200, lambda base, version, content, sign: cut(base, version, content, 20, sign, levels=2)),
}
"""Sizes in bytes. "many" has 260 segments and two manifest segments."""
QUICK: Final = ("inline", "three", "two-level", "sealed")


def renumbered(packets: ObjectPackets, like: ObjectPackets) -> dict[Name, bytes]:
    """The packets of one version by the names of the same packets of another."""
    old, new = packets.manifest.name, like.manifest.name
    moved = {new + name[len(old) :]: wire for name, wire in packets.packets.items()}
    return {like.metadata_name: packets.metadata, **moved}
