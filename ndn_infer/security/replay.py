"""Replay protection for signed Interests: every one is accepted once.

Owns: the state per key (NDN Packet Format 0.3, section 5.4: SignatureNonce, SignatureTime, SignatureSeqNum). Must not
know: signatures; call `accept` only after the signature has been verified, else anybody could fill the state. Pure:
`now` is the receiver's clock in Unix epoch seconds, because SignatureTime is on that scale.

The specification offers "time greater than the last time". Calls of one client run side by side and may overtake each
other, so here a time may be up to `grace_s` off the clock in any order, and the nonces of that window are remembered.
What is dropped for want of room raises a floor below which times are refused, so nothing is ever accepted twice.

Room is shared by groups, the site that a key belongs to: a site may certify as many role keys as it likes, and date
their commands ahead. The group with the most keys gives way, and only its own new keys meet the floor that leaves.
A journal (replay_journal.py) carries the floors of the last minutes over a restart.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.errors import BadSignature
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import SignatureInfo
from ndn_infer.security.replay_journal import ReplayJournal

GRACE_S: Final = 120.0
"""As in ndn-cxx: two minutes between the sender's clock and ours."""

MAX_KEYS: Final = 4096
MAX_NONCES: Final = 1000
MIN_NONCE_BYTES: Final = 8

_CLOCKS: Final = "compare the clocks of both machines (NTP)"
_AGAIN: Final = "send it again with a new nonce and the time of now"


@dataclass(slots=True)
class _KeyState:
    floor_ms: int
    sequence: int = -1
    order: deque[tuple[int, bytes]] = field(default_factory=deque)
    nonces: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class _SiteKeys:
    """The keys of one site, the one used last at the end. New keys begin at `floor_ms`."""

    floor_ms: int = 0
    keys: OrderedDict[Name, _KeyState] = field(default_factory=OrderedDict)


class ReplayWindow:
    """Remembers the signed Interests of the last `2 * grace_s` seconds, for up to `max_keys` keys.

    Without a `journal` a restart forgets what was accepted before it.
    """

    def __init__(
        self, *, grace_s: float = GRACE_S, max_keys: int = MAX_KEYS, max_nonces: int = MAX_NONCES,
        journal: ReplayJournal | None = None,
    ) -> None:  # fmt: skip
        self._grace_ms = int(grace_s * 1000)
        self._max_keys = max_keys
        self._max_nonces = max_nonces
        self._journal = journal
        self._groups: dict[Name, _SiteKeys] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def accept(self, key_name: Name, info: SignatureInfo, now: float, *, group: Name = b"") -> None:
        """Take note of one verified Interest; `group` is the site of its key. Raises BadSignature when it is a replay,
        or cannot be told from one."""
        nonce, time_ms = info.nonce, info.time_ms
        if nonce is None or len(nonce) < MIN_NONCE_BYTES or time_ms is None:
            raise BadSignature("a signed Interest carries a SignatureNonce of 8 bytes and a SignatureTime", hint=_AGAIN)
        now_ms = int(now * 1000)
        if abs(time_ms - now_ms) > self._grace_ms:
            off = (time_ms - now_ms) / 1000
            raise BadSignature(f"the signed Interest's time is {off:+.0f} s off this machine's clock", hint=_CLOCKS)
        state = self._state(group, key_name)
        self._forget(state, now_ms)
        if nonce in state.nonces or time_ms <= state.floor_ms:
            raise BadSignature("this signed Interest was seen before, or is older than what is remembered", hint=_AGAIN)
        if info.sequence is not None:
            if info.sequence <= state.sequence:
                raise BadSignature("the signed Interest's sequence number is not greater than the last", hint=_AGAIN)
            state.sequence = info.sequence
        self._remember(state, time_ms, nonce)
        if self._journal is not None:
            self._journal.note(key_name, time_ms)

    def _state(self, name: Name, key_name: Name) -> _KeyState:
        group = self._groups.setdefault(name, _SiteKeys())
        state = group.keys.get(key_name)
        if state is not None:
            group.keys.move_to_end(key_name)
            return state
        before = self._journal.floor_ms(key_name) if self._journal is not None else 0
        state = group.keys[key_name] = _KeyState(max(group.floor_ms, before))
        self._count += 1
        if self._count > self._max_keys:
            self._give_way()
        return state

    def _give_way(self) -> None:
        """One key fewer, of the group that has the most."""
        largest = max(self._groups.values(), key=lambda group: len(group.keys))
        _, gone = largest.keys.popitem(last=False)
        self._count -= 1
        largest.floor_ms = max(largest.floor_ms, gone.floor_ms, *(time for time, _ in gone.order))

    def _forget(self, state: _KeyState, now_ms: int) -> None:
        """Drop nonces whose time would be refused anyway. In order of arrival: a young one may hold up old ones."""
        while state.order and state.order[0][0] < now_ms - self._grace_ms:
            _, nonce = state.order.popleft()
            state.nonces.discard(nonce)

    def _remember(self, state: _KeyState, time_ms: int, nonce: bytes) -> None:
        state.order.append((time_ms, nonce))
        state.nonces.add(nonce)
        if len(state.order) > self._max_nonces:
            oldest_ms, oldest = state.order.popleft()
            state.nonces.discard(oldest)
            state.floor_ms = max(state.floor_ms, oldest_ms)
