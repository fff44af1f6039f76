"""What an endpoint and those who use it hand to each other: how packets arrive, who waits, what is asked of us.

Owns: these shapes. Must not know: tables, links.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from ndn_infer.ndn import lp
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Interest
from ndn_infer.wire.segment_runs import SegmentRun


class Arrival(NamedTuple):
    """How a Data packet arrived. `face_id` is IncomingFaceId, None when the forwarder does not tell."""

    marked: bool
    face_id: int | None

    @property
    def from_content_store(self) -> bool:
        """Whether this machine's forwarder took it from its own Content Store."""
        return self.face_id == lp.CONTENT_STORE_FACE_ID


BARE: Final = Arrival(False, None)

OnData = Callable[[bytes, Name, Arrival], None]
OnNack = Callable[[int], None]


@dataclass(slots=True, eq=False)
class Pending:
    """One Interest that waits. `on_data` gets the packet's bytes and name, `on_nack` the reason. `wire` is what was
    sent last."""

    name: Name
    can_be_prefix: bool
    on_data: OnData
    on_nack: OnNack
    wire: bytes = b""


class Numbered(Protocol):
    """Whoever waits for many segments below one prefix; gets them by number."""

    def on_segment(self, number: int, wire: bytes, arrival: Arrival) -> None: ...

    def on_run(self, run: SegmentRun, arrival: Arrival) -> int:
        """Take packets that are alike, as `on_segment` would one by one, up to the first that it would not simply take;
        how many. They are not to be kept: the next read overwrites them."""
        ...

    def on_refusal(self, number: int, reason: int) -> None: ...


class ReceivedInterest(NamedTuple):
    """An Interest that arrived, and how to answer it: `reply(data wire)`, or `refuse(reason)` with a Nack. `face_id` is
    the face it came from, None when the forwarder does not tell."""

    interest: Interest
    reply: Callable[[bytes], None]
    refuse: Callable[[int], None]
    expires: float
    face_id: int | None = None
    token: bytes = b""
    """Interests of equal names and tokens are one to whoever sent them (a PIT entry): one Data packet answers all."""


Handler = Callable[[ReceivedInterest], None]


@dataclass(slots=True)
class EndpointStats:
    interests_out: int = 0
    data_in: int = 0
    interests_in: int = 0
    data_out: int = 0
    nacks_in: int = 0
    unsolicited: int = 0
    malformed: int = 0
    nacks_out: int = 0
    timeouts: int = 0
    """Interests that were not answered in time."""
    retransmitted: int = 0
    """Interests for packets of objects that were sent again."""
    refused: int = 0
    """Packets of objects and streams that were not what their name or their signer promises."""
