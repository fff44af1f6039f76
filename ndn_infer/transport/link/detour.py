"""Interests for which no route leads, sent again by forwarding hint to those who may have what they name.

Owns: which hint an Interest gets next, which hint answered for which names. Must not know: who those are (a function
gives them), what names mean beyond their first components. Pure: `now` is passed in, no socket.

A zero-trust forwarder grants an application routes below its own identity and nowhere else: content names lead nowhere
then, and identities everywhere. Whoever asks without a hint is told so by a Nack, and asks one identity after another.
The one that answers is asked first from then on, for all names of the same beginning, without a Nack before.

A name without a route must not become a burst. Of names of the same beginning one is asked about at a time: others wait
until it has an answer (they follow it) or was refused by all (whoever waits is told, and may ask again). What everybody
refused is not asked about again for NEGATIVE_S: its next Nack is final.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Interest
from ndn_infer.ndn.tlv import encode_tlv, read_header

MAX_HINTS: Final = 64
"""Identities that one Interest is sent to, one after the other."""
MAX_WAYS: Final = 4096
MAX_LEARNED: Final = 512
MAX_WAITING: Final = 64
"""Interests that wait for one that is asked about, for each beginning; more are refused."""
SEARCH_S: Final = 0.5
"""A search that was not moved for so long holds up no others: who was asked is silent."""
NEGATIVE_S: Final = 1.0
_FLAGS: Final = (0x21, 0x12)
_HINT: Final = 0x1E
_NONCE: Final = 0x0A

T = TypeVar("T")
Whereabouts = Callable[[Name], Iterable[Name]]
"""Identities that may answer for a name, the likeliest first."""


@dataclass(slots=True)
class _Way:
    """`hint` is being asked, `left` come after it."""

    hint: Name
    left: list[Name]


@dataclass(slots=True)
class _Search:
    """For whoever has names of one beginning; `name` is asked about, `waiting` are Interests for others."""

    name: Name
    moved_at: float
    waiting: dict[Name, tuple[Interest, bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """What follows from a packet: Interests to send, and refused ones, whose senders are to be told."""

    send: tuple[bytes, ...] = ()
    told: tuple[Interest, ...] = ()


NOTHING: Final = Turn()


class Detour:
    """Of one application. `whereabouts` may be added to at any time; earlier ones are asked first. `beginning` is how
    many components names have in common whose holder is expected to be one. `one_place` tells names that nobody answers
    but where they lead: a Nack for them is final."""

    def __init__(
        self, *whereabouts: Whereabouts, beginning: int, one_place: Callable[[Name], bool] = lambda name: False
    ) -> None:  # fmt: skip
        self.whereabouts = list(whereabouts)
        self._one_place = one_place
        self._beginning = beginning
        self._ways: OrderedDict[Name, _Way] = OrderedDict()
        self._learned: OrderedDict[Name, Name] = OrderedDict()
        self._searches: OrderedDict[Name, _Search] = OrderedDict()
        self._nowhere: OrderedDict[Name, float] = OrderedDict()

    @property
    def idle(self) -> bool:
        """Whether no Interest takes another way than its own."""
        return not self._learned and not self._ways

    def outgoing(self, wire: bytes, now: float) -> bytes:
        """The Interest as it is to be sent: by the hint that answered for such names, unless it has one of its own.
        One that was sent before and had no answer goes to the next."""
        if self.idle or not (name := _name_of(wire)):
            return wire
        way = self._ways.get(name)
        if way is not None:
            hint = way.left.pop(0) if way.left else b""
        else:
            hint = self._learned.get(self._start(name), b"")
        hinted = with_hint(wire, hint) if hint else None
        if hinted is None:
            self._ways.pop(name, None)
            return wire
        self._note(name, hint, self._candidates(name, hint) if way is None else way.left)
        if (search := self._searches.get(self._start(name))) is not None and search.name == name:
            search.moved_at = now
        return hinted

    def refused(self, interest: Interest, wire: bytes, reason: int, now: float) -> Turn:
        """A Nack came for this Interest."""
        name, way = interest.name, self._ways.get(interest.name)
        if way is not None and interest.hints != (way.hint,):
            return NOTHING  # an older one of this name; the newer is on its way
        if reason != lp.REASON_NO_ROUTE or (way is None and (interest.hints or self._one_place(name))):
            return self._give_up(interest)
        start = self._start(name)
        if way is None:
            if self._nowhere.get(name, now) > now:
                return Turn(told=(interest,))
            search = self._searches.get(start)
            if search is not None and search.name != name and now < search.moved_at + SEARCH_S:
                return self._wait(search, interest, wire)
        elif self._learned.get(start) == way.hint:
            del self._learned[start]
        return self._ask_next(interest, wire, self._candidates(name, b"") if way is None else way.left, now)

    def answered(self, name: Name, now: float) -> tuple[bytes, ...]:
        """Data came for an Interest of this name. Interests that are sent now: they waited for what it tells."""
        way = self._ways.pop(name, None)
        if way is None:
            return ()
        start = self._start(name)
        _keep(self._learned, start, way.hint, MAX_LEARNED)
        search = self._searches.pop(start, None)
        return tuple(self.outgoing(wire, now) for _, wire in search.waiting.values()) if search is not None else ()

    # ------------------------------------------------------------ a search

    def _wait(self, search: _Search, interest: Interest, wire: bytes) -> Turn:
        if len(search.waiting) >= MAX_WAITING and interest.name not in search.waiting:
            return Turn(told=(interest,))
        search.waiting[interest.name] = (interest, wire)
        return NOTHING

    def _ask_next(self, interest: Interest, wire: bytes, left: list[Name], now: float) -> Turn:
        """Ask the next of `left`, or nobody any more."""
        name, start, asked = interest.name, self._start(interest.name), bool(left)
        while left:
            hint = left.pop(0)
            hinted = with_hint(wire, hint, replace=True)
            if hinted is not None:
                self._note(name, hint, left)
                search = self._searches.get(start)
                waiting = search.waiting if search is not None else {}
                waiting.pop(name, None)
                _keep(self._searches, start, _Search(name, now, waiting), MAX_LEARNED)
                return Turn(send=(hinted,))
        if asked or name in self._ways:
            _keep(self._nowhere, name, now + NEGATIVE_S, MAX_WAYS)
        return self._give_up(interest)

    def _give_up(self, interest: Interest) -> Turn:
        """Nobody is left to ask; those who waited for this are told as well."""
        self._ways.pop(interest.name, None)
        start = self._start(interest.name)
        search = self._searches.get(start)
        if search is None or search.name != interest.name:
            return Turn(told=(interest,))
        del self._searches[start]
        return Turn(told=(interest, *(waiting for waiting, _ in search.waiting.values())))

    def _note(self, name: Name, hint: Name, left: list[Name]) -> None:
        _keep(self._ways, name, _Way(hint, left), MAX_WAYS)

    def _candidates(self, name: Name, but: Name) -> list[Name]:
        found: dict[Name, None] = {}
        for source in self.whereabouts:
            for hint in source(name):
                if hint != but:
                    found[hint] = None
                if len(found) >= MAX_HINTS:
                    return list(found)
        return list(found)

    def _start(self, name: Name) -> Name:
        ends = ndn.prefix_ends(name)
        return name[: ends[min(self._beginning, len(ends) - 1)]]


def _keep(table: OrderedDict[Name, T], key: Name, value: T, most: int) -> None:
    """Put it last; the first ones go when there are more than `most`."""
    table[key] = value
    table.move_to_end(key)
    while len(table) > most:
        table.popitem(last=False)


def _name_of(wire: bytes) -> Name:
    """Of a bare Interest; b"" of anything else."""
    if wire[:1] != bytes((tlv.INTEREST,)):
        return b""
    try:
        _, start, end = read_header(wire, 0, len(wire))
        kind, value, after = read_header(wire, start, end)
    except BadPacket:
        return b""
    return wire[value:after] if kind == tlv.NAME else b""


def with_hint(wire: bytes, hint: Name, *, replace: bool = False) -> bytes | None:
    """An Interest with this forwarding hint and a Nonce of its own; None for one that has a hint already (unless it is
    to be replaced), that would be too large, or that is no bare Interest."""
    if wire[:1] != bytes((tlv.INTEREST,)):
        return None
    try:
        _, start, end = read_header(wire, 0, len(wire))
        _, _, at = read_header(wire, start, end)
        head = wire[start:at]
        while at < end:
            kind, value, after = read_header(wire, at, end)
            if kind in _FLAGS:
                head += wire[at:after]
            elif kind == _HINT and not replace:
                return None
            elif kind not in (_HINT, _NONCE):
                break
            at = after
    except BadPacket:
        return None
    fields = (head, encode_tlv(_HINT, ndn.encode_name(hint)), b"\x0a\x04", os.urandom(4), wire[at:])
    hinted = encode_tlv(tlv.INTEREST, b"".join(fields))
    return hinted if len(hinted) <= tlv.MAX_PACKET_BYTES else None
