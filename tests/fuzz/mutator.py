"""What becomes of valid packets on their way to a fuzzed forwarder.

Owns: mutations of bytes and of elements, and the stream of mutated packets. A run is a function of its seed. Must not
know: what the packets are thrown at.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.tlv import encode_nonneg, encode_tlv
from tests.fuzz.packets import ODD_NUMBERS, corpus, fragments, random_link, random_packet

RENEW_EVERY: Final = 64
"""After so many packets one generated sample is replaced by a new one."""
GENERATED: Final = 160
ODD_BYTES: Final = (0, 1, 2, 5, 6, 7, 8, 0x50, 0x62, 0x64, 0x7F, 0x80, 0xFC, 0xFD, 0xFE, 0xFF)
ODD_TYPES: Final = (
    1, 2, 5, 6, 7, 8, 0x0A, 0x0C, 0x12, 0x14, 0x16, 0x1E, 0x21, 0x22, 0x24, 0x2C, 0x50, 0x51, 0x52, 0x53, 0x62, 0x64,
    0x320, 0x330, 0x334, 0x340, 0x344, 0x348, 0x350, 800, 959, 65535, 65536, 1 << 32,
)  # fmt: skip
ODD_TLV_NUMBERS: Final = (
    b"\xfd\x00\x05",
    b"\xfd\x01\x00",
    b"\xfe\x00\x01\x00\x00",
    b"\xff" + b"\xff" * 8,
    b"\xfd",
    b"",
)


# ---------------------------------------------------------------- mutations of bytes

Mutation = Callable[[random.Random, bytearray, list[bytes]], None]


def _flip(rng: random.Random, wire: bytearray, samples: list[bytes]) -> None:
    for _ in range(rng.randint(1, 8)):
        wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)


def _odd_byte(rng: random.Random, wire: bytearray, samples: list[bytes]) -> None:
    """A type or a length near the front, where most headers are."""
    at = rng.randrange(min(len(wire), 48))
    wire[at] = rng.choice((*ODD_BYTES, max(wire[at] - 1, 0), min(wire[at] + 1, 255)))


def _cut(rng: random.Random, wire: bytearray, samples: list[bytes]) -> None:
    start = rng.randrange(len(wire))
    del wire[start : start + rng.randint(1, 40)]


def _truncate(rng: random.Random, wire: bytearray, samples: list[bytes]) -> None:
    del wire[rng.randrange(len(wire)) :]


def _insert(rng: random.Random, wire: bytearray, samples: list[bytes]) -> None:
    start = rng.randrange(len(wire) + 1)
    wire[start:start] = rng.randbytes(rng.randint(1, 9)) if rng.random() < 0.5 else wire[start : start + 40]


def _number(rng: random.Random, wire: bytearray, samples: list[bytes]) -> None:
    """A number of an unusual form somewhere."""
    at = rng.randrange(len(wire))
    wire[at : at + 1] = rng.choice(ODD_TLV_NUMBERS)


def _splice(rng: random.Random, wire: bytearray, samples: list[bytes]) -> None:
    other = rng.choice(samples)
    start = rng.randrange(len(other))
    wire[rng.randrange(len(wire) + 1) :] = other[start : start + rng.choice((10, 100, 9000))]


def _lie(rng: random.Random, wire: bytearray, samples: list[bytes]) -> None:
    """The length of one element, found by walking down, says something else; all others stay."""
    start, end = 0, len(wire)
    raw = bytes(wire)
    for _ in range(rng.randint(1, 5)):
        try:
            elements = list(tlv.iterate(raw, start, end))
        except BadPacket:
            return
        if not elements:
            return
        kind, value, after = rng.choice(elements)
        at = value - len(tlv.encode_number(after - value))
        start, end = value, after
        if rng.random() < 0.3:
            break
    length = rng.choice((after - value - 1, after - value + 1, 0, 252, 253, 65536, 1 << 40, 9000))
    wire[at:value] = tlv.encode_number(max(0, length))


MUTATIONS: Final[tuple[Mutation, ...]] = (_flip, _odd_byte, _odd_byte, _cut, _truncate, _insert, _number, _splice, _lie)


# ---------------------------------------------------------------- mutations of elements


def mutate_elements(rng: random.Random, wire: bytes, samples: list[bytes], depth: int = 0) -> bytes:
    """Change one element somewhere inside; all lengths around it stay true."""
    try:
        elements = [(kind, wire[start:end]) for kind, start, end in tlv.iterate(wire)] if depth < 12 else []
    except BadPacket:
        elements = []
    if not elements or len(elements) > 1000:
        return rng.choice(
            (b"", rng.randbytes(4), wire[: len(wire) // 2], wire + wire, encode_nonneg(rng.choice(ODD_NUMBERS)))
        )
    at = rng.randrange(len(elements))
    kind, value = elements[at]
    match rng.randrange(12):
        case 0:
            del elements[at]
        case 1:
            elements.insert(at, rng.choice(elements))
        case 2:
            elements[at] = rng.choice(ODD_TYPES), value
        case 3:
            elements[at] = kind, rng.choice(samples)
        case 4:
            rng.shuffle(elements)
        case 5 if len(value) < 4000:
            for _ in range(rng.choice((1, 2, 50))):
                value = encode_tlv(kind, value)
            elements[at] = kind, value
        case 6:
            elements.insert(at, (rng.choice(ODD_TYPES), rng.randbytes(rng.choice((0, 1, 2, 4, 8, 32)))))
        case _:
            elements[at] = kind, mutate_elements(rng, value, samples, depth + 1)
    return b"".join(encode_tlv(kind, value) for kind, value in elements)


def mutate_bytes(rng: random.Random, wire: bytes, samples: list[bytes]) -> bytes:
    changed = bytearray(wire)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        if changed:
            rng.choice(MUTATIONS)(rng, changed, samples)
    return bytes(changed)


class Mutator:
    """An endless stream of packets that were valid once; some still are. The same seed gives the same stream.

    Without `creating`, no packet has the word "create" in it: over real sockets, a damaged faces/create would make the
    forwarder send to strangers.
    """

    def __init__(self, seed: int, *, creating: bool = True) -> None:
        self._rng = random.Random(seed)
        self._creating = creating
        self._fixed = [wire for wire in corpus() if self._harmless(wire)]
        self._samples = self._fixed + [self._generate() for _ in range(GENERATED)]
        self._made = 0

    def packet(self) -> bytes:
        """Never empty."""
        rng, samples = self._rng, self._samples
        self._made += 1
        if self._made % RENEW_EVERY == 0:
            samples[rng.randrange(len(self._fixed), len(samples))] = self._generate()
        wire = self._change(rng.choice(samples))
        if rng.random() < 0.06 and len(wire) < 8000:  # what is inside a link packet or behind fragments is hostile too
            wire = random_link(rng, wire) if rng.random() < 0.5 else rng.choice(fragments(wire or b"\0", 90, 700))
        return wire if wire and self._harmless(wire) else b"\0"

    def packets(self, count: int) -> list[bytes]:
        return [self.packet() for _ in range(count)]

    def _change(self, wire: bytes) -> bytes:
        rng = self._rng
        way = rng.random()
        if way < 0.4:
            at = wire.find(b"\x0a\x04")
            if at >= 0:  # not everything is to be a loop
                wire = wire[: at + 2] + rng.randbytes(4) + wire[at + 6 :]
        if way < 0.12:  # the tables must not stay empty
            return wire
        if way < 0.5:
            return mutate_elements(rng, wire, self._samples)
        wire = mutate_bytes(rng, wire, self._samples)
        return _rewrap(wire) if way < 0.7 else wire

    def _generate(self) -> bytes:
        while True:
            wire = random_packet(self._rng)
            if wire and self._harmless(wire):
                return wire

    def _harmless(self, wire: bytes) -> bool:
        return self._creating or b"create" not in wire


def _rewrap(wire: bytes) -> bytes:
    """Put the outer length right, so that the inside is reached."""
    try:
        kind, after = tlv.read_number(wire, 0, len(wire))
        _, value = tlv.read_number(wire, after, len(wire))
    except BadPacket:
        return wire
    return encode_tlv(kind, wire[value:])
