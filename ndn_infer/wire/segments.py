"""The segments of one version of an object: Interests for them, and checking and putting together what comes.

Owns: the bytes of Interests for numbered segments, the check of each against the manifest, what is there and what is
missing, and how a poisoned cache is passed. Pure, and on the hot path: an Interest is put together from parts made
once, a segment costs one SHA-256 and no decoding. Must not know: windows and timers (puller.py), sockets, keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, DigestMismatch
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import DEFAULT_LIFETIME_MS, content_span
from ndn_infer.ndn.tlv import encode_nonneg, encode_number, encode_tlv
from ndn_infer.wire.manifest import SEGMENT_BYTES, Manifest
from ndn_infer.wire.segment_runs import SegmentRun

_NONCES: Final = 1024


class InterestTemplate:
    """Makes Interests for `<prefix>/seg=<n>`: only number and Nonce differ between two of them."""

    def __init__(
        self, prefix: Name, *, hints: tuple[Name, ...] = (), lifetime_ms: int = DEFAULT_LIFETIME_MS, fresh: bool = False
    ) -> None:  # fmt: skip
        """`fresh`: MustBeFresh."""
        self._prefix = prefix
        before = b"\x12\x00" if fresh else b""
        before += encode_tlv(0x1E, b"".join(map(ndn.encode_name, hints))) if hints else b""
        self._before_nonce = before + b"\x0a\x04"
        self._tail = b"" if lifetime_ms == DEFAULT_LIFETIME_MS else encode_tlv(0x0C, encode_nonneg(lifetime_ms))
        self._heads: dict[int, bytes] = {}
        self._nonces = b""
        self._used = 0

    def _head(self, width: int, extra: int = 0) -> bytes:
        """Everything before the segment number, when that has `width` bytes and `extra` bytes of name follow."""
        name_length = len(self._prefix) + 2 + width + extra
        name = encode_number(tlv.NAME) + encode_number(name_length) + self._prefix + bytes((0x32, width))
        rest = width + extra + len(self._before_nonce) + 4 + len(self._tail)
        return encode_number(tlv.INTEREST) + encode_number(len(name) + rest) + name

    def make(self, number: int) -> bytes:
        """The Interest for segment `number`, with a new Nonce."""
        used = self._used
        if used == len(self._nonces):
            self._nonces, used = os.urandom(4 * _NONCES), 0
        self._used = used + 4
        if number < 0x100:
            value = bytes((number,))
        elif number < 0x10000:
            value = number.to_bytes(2, "big")
        else:
            value = encode_nonneg(number)
        nonce = self._nonces[used : used + 4]
        return b"".join((self._head_for(len(value)), value, self._before_nonce, nonce, self._tail))

    def _head_for(self, width: int) -> bytes:
        head = self._heads.get(width)
        if head is None:
            head = self._heads[width] = self._head(width)
        return head

    def many(self, numbers: list[int]) -> bytes:
        """`make` for each of them, one after another."""
        least, most, count = min(numbers), max(numbers), len(numbers)
        width = 1 if most < 0x100 else 2
        if count < 3 or most > 0xFFFF or (width == 2 and least < 0x100):
            return b"".join(map(self.make, numbers))
        head, before_nonce = self._head_for(width), self._before_nonce
        one = b"".join((head, bytes(width), before_nonce, bytes(4), self._tail))
        size, at, wires, nonces = len(one), len(head), bytearray(one * count), os.urandom(4 * count)
        if width == 2:
            wires[at::size] = bytes([number >> 8 for number in numbers])
            at += 1
            numbers = [number & 0xFF for number in numbers]
        wires[at::size] = bytes(numbers)
        at += 1 + len(before_nonce)
        for place in range(4):
            wires[at + place :: size] = nonces[place::4]
        return bytes(wires)

    def exact(self, number: int, digest: bytes) -> bytes:
        """The Interest for exactly the packet of this SHA-256: only an honest copy can answer it."""
        value = encode_nonneg(number)
        component = ndn.implicit_digest(digest)
        head = self._head(len(value), len(component))
        return b"".join((head, value, component, self._before_nonce, os.urandom(4), self._tail))


class Segments:
    """Numbered packets below one prefix, each known by its SHA-256, until all that are wanted are there.

    `digests` are packed, one for each of `count` packets; all contents have `size` bytes at most, and what is more is
    refused as it comes: digests promise nothing about sizes. `wanted` are the numbers to be had, all by default; `have`
    holds contents that are there already (an earlier try). With `into`, writable and as large as all contents together,
    contents are copied there, SEGMENT_BYTES each (the last may have less); without, they are kept as views of the
    packets that carried them.
    """

    def __init__(
        self, prefix: Name, count: int, digests: bytes, *, size: int, hints: tuple[Name, ...] = (),
        lifetime_ms: int = DEFAULT_LIFETIME_MS, wanted: Iterable[int] | None = None,
        have: Mapping[int, bytes | memoryview] | None = None, into: memoryview | None = None,
    ) -> None:  # fmt: skip
        self.prefix = prefix
        self.count = count
        self._into = into
        self._left = size
        self.contents: dict[int, bytes | memoryview] = {}
        for number, content in (have or {}).items():
            self._keep(number, content)
        self.had = len(have or {})
        """Contents that were there before."""
        self.missing = set(range(count) if wanted is None else wanted) - (have or {}).keys()
        self.from_content_store = 0
        self.refused = 0
        self._digests = digests
        self._template = InterestTemplate(prefix, hints=hints, lifetime_ms=lifetime_ms)
        self._past_caches: set[int] = set()
        self._shape = (0, 0, 0, b"")  # length of packet, start and end of content, header before it

    @property
    def complete(self) -> bool:
        return not self.missing

    def name(self, number: int) -> Name:
        return self.prefix + ndn.segment(number)

    def interest(self, number: int) -> bytes:
        """The Interest to send for `number` now; past the caches when one of them gave something else."""
        if self._past_caches and number in self._past_caches:
            return self._template.exact(number, self._digest(number))
        return self._template.make(number)

    def interests(self, numbers: list[int]) -> bytes:
        """`interest` for each of them, one after another."""
        if self._past_caches.isdisjoint(numbers):
            return self._template.many(numbers)
        return b"".join(map(self.interest, numbers))

    def accept(self, number: int, wire: bytes) -> bool:
        """Take the packet that came for `number`. False when it was not wanted (any more).

        Raises DigestMismatch when it is not the one that the producer signed for; it will be asked for by its digest
        then, since a cache on the path holds a bad copy and would give it again.
        """
        if number not in self.missing:
            return False
        if sha256(wire).digest() != self._digests[32 * number : 32 * number + 32]:
            self.refused += 1
            self._past_caches.add(number)
            raise DigestMismatch(f"{ndn.to_uri(self.name(number))} is not the packet that its producer signed for")
        self._keep(number, self._content(wire))
        self.missing.discard(number)
        return True

    def accept_run(self, run: SegmentRun) -> list[int]:
        """`accept` for packets that are alike, up to the first that is not wanted, is not the one that its producer
        signed for, or does not fit into its place: the numbers of those before it, which are taken."""
        frames, digests, missing, taken = run.frames, self._digests, self.missing, list[int]()
        (_, at, width, data_at, _), stride, view, into = run.shape, run.stride, run.frames.view, self._into
        length, first, last, header = self._shape
        for begin in range(run.start, run.start + run.packets * stride, stride):
            number = view[begin + at] if width == 1 else view[begin + at] << 8 | view[begin + at + 1]
            data = begin + data_at
            wire = view[data : begin + stride]
            if number not in missing or sha256(wire).digest() != digests[32 * number : 32 * number + 32]:
                break
            try:
                if into is None or length != stride - data_at or not frames.room.startswith(header, data + first - 4):
                    self._keep(number, self._content(wire), lasting=False)
                    length, first, last, header = self._shape
                else:
                    into[number * SEGMENT_BYTES : (number + 1) * SEGMENT_BYTES] = view[data + first : data + last]
            except (BadPacket, ValueError):  # does not fit into its place
                break
            missing.remove(number)
            taken.append(number)
        return taken

    def _keep(self, number: int, content: bytes | memoryview, *, lasting: bool = True) -> None:
        """Put a content in its place; unless `lasting`, its bytes will be overwritten. Raises BadPacket when it does
        not fit there: sizes are as the manifest says."""
        into = self._into
        if into is not None:
            try:
                into[number * SEGMENT_BYTES : (number + 1) * SEGMENT_BYTES] = content
            except ValueError as error:  # of another length than its place
                raise BadPacket(f"{ndn.to_uri(self.name(number))} has {len(content)} bytes: not its place") from error
        else:
            if len(content) > self._left:
                raise BadPacket(f"{ndn.to_uri(self.prefix)} has more bytes than its manifest says")
            self._left -= len(content)
            self.contents[number] = content if lasting else bytes(content)

    def partial(self) -> dict[int, bytes | memoryview]:
        """Contents that are there, by number: what another try may bring along."""
        if self._into is None:
            return self.contents
        into = self._into
        there = (number for number in range(self.count) if number not in self.missing)
        return {number: into[number * SEGMENT_BYTES : (number + 1) * SEGMENT_BYTES] for number in there}

    def _digest(self, number: int) -> bytes:
        return self._digests[32 * number : 32 * number + 32]

    def _content(self, wire: bytes | memoryview) -> bytes | memoryview:
        """The content of a verified packet. Most look like the one before: same length, same header."""
        length, start, end, header = self._shape
        if len(wire) == length and wire[start - 4 : start] == header:
            return memoryview(wire)[start:end]
        start, end = content_span(bytes(wire))
        if end - start > 252:  # a header of four bytes, long enough to be told from others
            self._shape = (len(wire), start, end, bytes(wire[start - 4 : start]))
        return memoryview(wire)[start:end]


class InOrder:
    """Hands out verified contents in order of their numbers, from `first` on, as they become complete."""

    def __init__(self, segments: Segments, first: int = 0) -> None:
        self._segments = segments
        self.next = first

    def take(self) -> list[bytes | memoryview]:
        """What can be had now; it is not kept any longer."""
        contents, ready = self._segments.contents, []
        while self.next in contents:
            ready.append(contents.pop(self.next))
            self.next += 1
        return ready


def uniform_bytes(manifest: Manifest) -> int:
    """How many bytes every segment but the last has, when the manifest's sizes allow only one answer; else 0.

    An object that was cut at once has segments of SEGMENT_BYTES; those of a sealed stream have lengths of their own.
    """
    full = -(-manifest.size // SEGMENT_BYTES) if manifest.size else 1
    return SEGMENT_BYTES if full == manifest.segments else 0


def check_range(size: int, start: int, length: int) -> tuple[int, int]:
    """(start, end) within an object of `size` bytes. Raises BadPacket for a range outside it."""
    if start < 0 or length < 0 or start > size:
        raise BadPacket(f"bytes {start} to {start + length} are not in an object of {size} bytes")
    return start, min(start + length, size)
