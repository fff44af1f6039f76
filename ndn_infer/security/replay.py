"""Replay protection for signed Interests: every one is accepted once.

Owns: the state per key (NDN Packet Format 0.3, section 5.4: SignatureNonce, SignatureTime, SignatureSeqNum). Must not
know: signatures; call `accept` only after the signature has been verified, else anybody could fill the state. Pure:
`now` is the receiver's clock in Unix epoch seconds, because SignatureTime is on that scale.

The specification offers "time greater than the last time". Calls of one client run side by side and may overtake each
other, so here a time may be up to `grace_s` off the clock in any order, and the nonces of that window are remembered.
What is forgotten for want of room raises a floor below which times are refused, so nothing is ever accepted twice.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.errors import BadSignature
from ndn_infer.name import Name
from ndn_infer.packet import SignatureInfo

GRACE_S: Final = 120.0
"""As in ndn-cxx: two minutes between the sender's clock and ours."""

MAX_KEYS: Final = 1000
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


class ReplayWindow:
    """Remembers the signed Interests of the last `2 * grace_s` seconds, for up to `max_keys` keys."""

    def __init__(self, *, grace_s: float = GRACE_S, max_keys: int = MAX_KEYS, max_nonces: int = MAX_NONCES) -> None:
        self._grace_ms = int(grace_s * 1000)
        self._max_keys = max_keys
        self._max_nonces = max_nonces
        self._floor_ms = 0
        self._keys: OrderedDict[Name, _KeyState] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def accept(self, key_name: Name, info: SignatureInfo, now: float) -> None:
        """Take note of one verified Interest. Raises BadSignature when it is a replay, or cannot be told from one."""
        nonce, time_ms = info.nonce, info.time_ms
        if nonce is None or len(nonce) < MIN_NONCE_BYTES or time_ms is None:
            raise BadSignature("a signed Interest carries a SignatureNonce of 8 bytes and a SignatureTime", hint=_AGAIN)
        now_ms = int(now * 1000)
        if abs(time_ms - now_ms) > self._grace_ms:
            off = (time_ms - now_ms) / 1000
            raise BadSignature(f"the signed Interest's time is {off:+.0f} s off this machine's clock", hint=_CLOCKS)
        state = self._state(key_name)
        self._forget(state, now_ms)
        if nonce in state.nonces or time_ms <= state.floor_ms:
            raise BadSignature("this signed Interest was seen before, or is older than what is remembered", hint=_AGAIN)
        if info.sequence is not None:
            if info.sequence <= state.sequence:
                raise BadSignature("the signed Interest's sequence number is not greater than the last", hint=_AGAIN)
            state.sequence = info.sequence
        self._remember(state, time_ms, nonce)

    def _state(self, key_name: Name) -> _KeyState:
        state = self._keys.get(key_name)
        if state is None:
            state = self._keys[key_name] = _KeyState(self._floor_ms)
            if len(self._keys) > self._max_keys:
                _, gone = self._keys.popitem(last=False)
                self._floor_ms = max(self._floor_ms, gone.floor_ms, *(time for time, _ in gone.order))
        else:
            self._keys.move_to_end(key_name)
        return state

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
