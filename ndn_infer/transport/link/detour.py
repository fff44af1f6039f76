"""Interests for which no route leads, sent again by forwarding hint to those who may have what they name.

Owns: which hint an Interest gets next, which hint answered for which names. Must not know: who those are (a function
gives them), what names mean beyond their first components. Pure: no clock, no socket.

A zero-trust forwarder grants an application routes below its own identity and nowhere else: content names lead nowhere
then, and identities everywhere. Whoever asks without a hint is told so by a Nack, and asks one identity after another.
The one that answers is asked first from then on, for all names of the same beginning, without a Nack before.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

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
_FLAGS: Final = (0x21, 0x12)
_HINT: Final = 0x1E
_NONCE: Final = 0x0A

Whereabouts = Callable[[Name], Iterable[Name]]
"""Identities that may answer for a name, the likeliest first."""


@dataclass(slots=True)
class _Way:
    """`hint` is being asked, `left` come after it."""

    hint: Name
    left: list[Name]


class Detour:
    """Of one application. `whereabouts` may be added to at any time; earlier ones are asked first. `beginning` is how
    many components names have in common whose holder is expected to be one."""

    def __init__(self, *whereabouts: Whereabouts, beginning: int) -> None:
        self.whereabouts = list(whereabouts)
        self._beginning = beginning
        self._ways: OrderedDict[Name, _Way] = OrderedDict()
        self._learned: OrderedDict[Name, Name] = OrderedDict()

    @property
    def idle(self) -> bool:
        """Whether no Interest takes another way than its own."""
        return not self._learned and not self._ways

    def outgoing(self, wire: bytes) -> bytes:
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
        return hinted

    def refused(self, interest: Interest, wire: bytes, reason: int) -> bytes | None:
        """A Nack came for this Interest. What is to be sent instead, b"" for nothing; None: whoever waits is told."""
        name, way = interest.name, self._ways.get(interest.name)
        if way is not None and interest.hints != (way.hint,):
            return b""  # an older one of this name; the newer is on its way
        if reason != lp.REASON_NO_ROUTE or (way is None and interest.hints):
            self._ways.pop(name, None)
            return None
        left = self._candidates(name, b"") if way is None else way.left
        if way is not None and self._learned.get(self._start(name)) == way.hint:
            del self._learned[self._start(name)]
        while left:
            hint = left.pop(0)
            hinted = with_hint(wire, hint, replace=True)
            if hinted is not None:
                self._note(name, hint, left)
                return hinted
        self._ways.pop(name, None)
        return None

    def answered(self, name: Name) -> None:
        """Data came for an Interest of this name."""
        way = self._ways.pop(name, None)
        if way is not None:
            start = self._start(name)
            self._learned[start] = way.hint
            self._learned.move_to_end(start)
            while len(self._learned) > MAX_LEARNED:
                self._learned.popitem(last=False)

    def _note(self, name: Name, hint: Name, left: list[Name]) -> None:
        self._ways[name] = _Way(hint, left)
        self._ways.move_to_end(name)
        while len(self._ways) > MAX_WAYS:
            self._ways.popitem(last=False)

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
