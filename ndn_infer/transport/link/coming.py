"""Interests for what is being made: segments of live streams, each of which is asked for.

Owns: reading such an Interest no further than it takes, and handing it to whoever answers it in a while. Must not know:
links, streams. Interests of any other shape are left to the endpoint, which decodes them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ndn_infer import clock
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Interest
from ndn_infer.transport.link.exchange import Handler, ReceivedInterest
from ndn_infer.wire.peek import interest_name, lifetime_ms


class Coming:
    """`find(name)` gives who answers exactly this name, or None; `send` takes (Data, PIT token), `refuse` takes
    (Interest, PIT token, reason)."""

    def __init__(
        self, find: Callable[[Name], Handler | None], send: Callable[[bytes, bytes], None],
        refuse: Callable[[bytes, bytes, int], None],
    ) -> None:  # fmt: skip
        self._find, self._send, self._refuse = find, send, refuse

    def take(self, wire: bytes, face_id: int | None) -> bool:
        """Whether an Interest that came without a PIT token was for such a name."""
        name = interest_name(wire)
        handler = self._find(name) if name else None
        lives_ms = lifetime_ms(wire, name) if handler is not None else None
        if handler is None or lives_ms is None:
            return False
        interest, expires = Interest(name, lifetime_ms=lives_ms), clock.monotonic() + lives_ms / 1000
        handler(ReceivedInterest(interest, self._reply, partial(self._refuse, wire, b""), expires, face_id))
        return True

    def _reply(self, wire: bytes) -> None:
        self._send(wire, b"")
