"""Packets that are like one before, and what a face remembers of those.

They have the same bytes but for the value of the name's last component and for what each has of its own: an Interest
its nonce, a Data packet its content and the value of its signature. What was found out about the rest holds for all of
them: types, lengths and order of elements, everything in the name but that value. Owns: recognising them without
parsing. Must not know: tables, faces, what is decided from it. Source: NDN Packet Format 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.core.parsing import parse_data, parse_interest
from ndn_infer.ndn.name import IMPLICIT_DIGEST, PARAMETERS_DIGEST, Name
from ndn_infer.ndn.tlv import read_header

KNOWN_MOST: Final = 16
"""Kinds of packets that a face may alternate between."""
BEGUN_MOST: Final = 64
CREDIT_MOST: Final = 64
CREDIT_AGAIN: Final = 16
LEARNING: Final = 8
"""What it costs to look at packets is counted in failed looks: to learn a shape is as much as so many of them."""
REST: Final = 128
"""So many packets are not looked at once the credit is used up, before CREDIT_AGAIN is given."""


class InterestShape(NamedTuple):
    """`head` is all before the last component's value, `size` the length of the packet. Its name is
    `wire[start:end]`, with prefix ends `ends`; then come `middle`, the nonce up to `after`, and `tail`. `sent_tail`
    is the tail with its HopLimit one lower."""

    head: bytes
    size: int
    start: int
    end: int
    middle: bytes
    after: int
    tail: bytes
    sent_tail: bytes
    ends: tuple[int, ...]
    must_be_fresh: bool
    lifetime_s: float

    def names(self, packets: Sequence[bytes], at: int, most: int) -> list[Name]:
        """The names of those from packets[at] on that have this shape, up to the first that has not; `most` of them."""
        head, size, start, end, middle, after, tail = self[:7]
        nonce = end + len(middle)
        found = []
        for wire in islice(packets, at, at + most):
            if len(wire) != size or not wire.startswith(head) or wire[after:] != tail or wire[end:nonce] != middle:
                break
            found.append(wire[start:end])
        return found


class DataShape(NamedTuple):
    """As InterestShape; after the name come `middle` (MetaInfo, and the header of the content), the content, and from
    `info_at` on `info`: SignatureInfo and the header of SignatureValue."""

    head: bytes
    size: int
    start: int
    end: int
    middle: bytes
    info_at: int
    info: bytes
    ends: tuple[int, ...]
    freshness_ms: int

    def names(self, packets: Sequence[bytes], at: int, most: int) -> list[Name]:
        """As InterestShape.names."""
        head, size, start, end, middle, info_at, info = self[:7]
        content, value = end + len(middle), info_at + len(info)
        found = []
        for wire in islice(packets, at, at + most):
            if (
                len(wire) != size or not wire.startswith(head)
                or wire[end:content] != middle or wire[info_at:value] != info
            ):  # fmt: skip
                break
            found.append(wire[start:end])
        return found


def interest_shape(wire: bytes) -> InterestShape | None:
    """The shape of an Interest, unless it is malformed, asks by prefix or digest, has hints, lacks a nonce, has a name
    of one component, or its HopLimit ends here."""
    try:
        interest = parse_interest(wire)
    except BadPacket:
        return None
    hop_limit_at, nonce_at = interest.hop_limit_at, interest.nonce_at + 2
    after = nonce_at + 4
    if (
        interest.can_be_prefix or interest.hints or not interest.nonce
        or wire[nonce_at - 2 : after] != b"\x0a\x04" + interest.nonce
        or (hop_limit_at and (hop_limit_at < after or wire[hop_limit_at] < 2))
    ):  # fmt: skip
        return None
    start, end, value = _name_span(wire, interest.ends)
    if not value:
        return None
    tail = sent_tail = wire[after:]
    if hop_limit_at:
        place = hop_limit_at - after
        sent_tail = tail[:place] + bytes((tail[place] - 1,)) + tail[place + 1 :]
    return InterestShape(
        wire[:value], len(wire), start, end, wire[end:nonce_at], after, tail, sent_tail, tuple(interest.ends),
        interest.must_be_fresh, interest.lifetime_ms / 1000,
    )  # fmt: skip


def data_shape(wire: bytes) -> DataShape | None:
    """The shape of a Data packet, unless it is malformed, is named by a digest, has a name of one component, or has
    other elements than most."""
    try:
        _, freshness_ms, ends = parse_data(wire)
    except BadPacket:
        return None
    start, end, value = _name_span(wire, ends)
    places = {}
    at, size = end, len(wire)
    while at < size:
        kind, first, at = read_header(wire, at, size)
        places[kind] = (first, at)
    if not value or not {0x15, 0x16, 0x17} <= places.keys() <= {0x14, 0x15, 0x16, 0x17}:
        return None
    (content, info_at), (signature, _) = places[0x15], places[0x17]
    return DataShape(
        wire[:value], size, start, end, wire[end:content], info_at, wire[info_at:signature], tuple(ends), freshness_ms
    )


def _name_span(wire: bytes, ends: Sequence[int]) -> tuple[int, int, int]:
    """Where the name of a well-formed packet begins and ends, and where the value of its last component begins: 0 when
    that is a digest, empty, the only one, or has a long header."""
    _, at, size = read_header(wire, 0, len(wire))
    _, start, end = read_header(wire, at, size)
    last = start + ends[-2]
    kind, value, _ = read_header(wire, last, end)
    usual = value == last + 2 and value < end and kind not in (IMPLICIT_DIGEST, PARAMETERS_DIGEST)
    return start, end, value if usual and len(ends) > 2 else 0


class Headed(Protocol):
    """What is remembered with a shape; `head` is the shape's. It holds as long as nothing else than `versions` is
    current: tables on which it rests."""

    head: bytes
    versions: object


Run = TypeVar("Run", bound=Headed)


class Memory(Generic[Run]):
    """What a face has sent of late: a few shapes, the one used last at hand.

    Packets that are like none cost next to nothing: who looks in vain uses up a credit, which those earn that were
    handled together, and after that `rest` so many packets are not looked at.
    """

    __slots__ = ("_begun", "_credit", "_known", "_last", "rest")

    def __init__(self) -> None:
        self._last: Run | None = None
        self._known: dict[bytes, Run] = {}
        self._begun: set[bytes] = set()
        self._credit = CREDIT_MOST
        self.rest = 0

    def find(self, wire: bytes, versions: object) -> Run | None:
        """The one whose head this packet has, if it still holds."""
        found = self._last
        if found is None:
            return None
        if not wire.startswith(found.head):
            found = self._known.get(wire[: len(found.head)])
            if found is None:
                return None
            self._last = found
        return found if found.versions == versions else None

    def worth_learning(self, wire: bytes) -> bool:
        """Whether to look closely at a packet for which `find` had nothing: when most that came were handled together,
        or one before began as it does."""
        begun, beginning = self._begun, _beginning(wire)
        if self._credit > CREDIT_MOST // 2 or beginning in begun:
            self._spend(LEARNING)
            return True
        if len(begun) >= BEGUN_MOST:
            begun.clear()
        begun.add(beginning)
        self._spend(1)
        return False

    def in_vain(self) -> None:
        """What was found was of no use."""
        self._spend(1)

    def used(self, count: int) -> None:
        """So many packets were handled together."""
        if count > 1:
            self._credit = min(CREDIT_MOST, self._credit + 2 * (count - 1))

    def learn(self, run: Run) -> None:
        known = self._known
        if len(known) >= KNOWN_MOST and run.head not in known:
            del known[next(iter(known))]
        known[run.head] = self._last = run

    def _spend(self, price: int) -> None:
        self._credit -= price
        if self._credit <= 0:
            self._credit = CREDIT_AGAIN
            self.rest = REST


def _beginning(wire: bytes) -> bytes:
    """The first third of the name, which packets that are alike have in common, with the lengths before it. Of what is
    malformed, anything."""
    at = 3 if wire[1:2] < b"\xfd" else 5
    size = wire[at] if at < len(wire) else 0
    return wire[: at + 1 + size // 3]
