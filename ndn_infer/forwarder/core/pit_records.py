"""What is pending, as objects: entries of the PIT with their records, and batches of entries that are all alike.

Owns: what an entry knows of itself, and what it costs. Must not know: the table (pit.py), who is asked, what is sent.
Source: NFD developer guide, section 3.4.
"""

from __future__ import annotations

from typing import Any, Final

from ndn_infer.ndn.name import Name

ENTRY_BYTES: Final = 1000
IN_BYTES: Final = 300
OUT_BYTES: Final = 200
"""What the objects of an entry (with one out-record) and of further records take beside packets and names."""


class Share:
    """What one face has in the PIT: how many `entries` began with it, what these and its in-records take, and in which
    entries it has a record of either kind."""

    __slots__ = ("entries", "held", "used_bytes")

    def __init__(self) -> None:
        self.entries = 0
        self.used_bytes = 0
        self.held: set[PitEntry | Batch] = set()


class InRecord:
    """Who asked: the Interest as received (HopLimit decremented), and the PIT token to give back.

    `last_hop`: its HopLimit is used up, so it may only go to local faces. `share` is what its face has here. `again`:
    the face has asked before, and still waits.
    """

    __slots__ = ("again", "expires", "last_hop", "nonce", "share", "token", "wire")

    def __init__(
        self, wire: bytes, nonce: bytes, token: bytes, expires: float, share: Share, last_hop: bool = False
    ) -> None:
        self.wire = wire
        self.share = share
        self.nonce = nonce
        self.token = token
        self.expires = expires
        self.last_hop = last_hop
        self.again = False


class OutRecord:
    """Whom we asked. `suppress_s` is the multicast strategy's interval for this upstream; `share` as of InRecord."""

    __slots__ = ("expires", "nack_reason", "nonce", "sent", "share", "suppress_s")

    def __init__(self, nonce: bytes, expires: float, sent: float, suppress_s: float, share: Share) -> None:
        self.nonce = nonce
        self.share = share
        self.expires = expires
        self.sent = sent
        self.suppress_s = suppress_s
        self.nack_reason: int | None = None

    def pending(self, now: float) -> bool:
        return self.nack_reason is None and self.expires >= now


class PitEntry:
    """One pending Interest: (name, CanBePrefix, MustBeFresh, hints), who wants it and who was asked.

    `depth` is the number of components of the name, `owner` the share of the face that asked first, `strategy` the
    strategy that forwarded it first, `strategy_info` what it keeps here, `suppress_s` best-route's interval.
    """

    __slots__ = (
        "bucket", "can_be_prefix", "cost", "depth", "expires", "freshness_ms", "hints", "ins", "must_be_fresh", "name",
        "outs", "owner", "satisfied", "strategy", "strategy_info", "suppress_s",
    )  # fmt: skip

    def __init__(
        self, name: Name, can_be_prefix: bool, must_be_fresh: bool, hints: tuple[Name, ...], depth: int, owner: Share
    ) -> None:
        self.name = name
        self.owner = owner
        self.cost = ENTRY_BYTES + len(name) + (sum(map(len, hints)) if hints else 0)
        self.depth = depth
        self.can_be_prefix = can_be_prefix
        self.must_be_fresh = must_be_fresh
        self.hints = hints
        self.ins: dict[int, InRecord] = {}
        self.outs: dict[int, OutRecord] = {}
        self.expires = 0.0
        self.suppress_s = 0.0
        self.satisfied = False
        self.freshness_ms = 0
        self.bucket = -1
        self.strategy: Any = None
        self.strategy_info: Any = None

    def asked_for(self, record: InRecord, face_id: int, now: float) -> bool:
        """Whether `record` of this face, which did not wait here yet, adds nothing: what it wants has been asked of
        another face, and is waited for there for half of its own time at least."""
        if record.again:
            return False
        until = now + (record.expires - now) / 2
        return any(
            asked != face_id and out.nack_reason is None and out.expires >= until for asked, out in self.outs.items()
        )

    def loops(self, nonce: bytes, face_id: int) -> bool:
        """Whether this nonce has been here by another way. The same face may send the same Interest again: that is a
        retransmission, not a loop (NFD developer guide, section 4.2.1, point-to-point faces)."""
        own = self.ins.get(face_id)
        if own is not None and own.nonce == nonce:
            return False
        return any(record.nonce == nonce for record in self.ins.values()) or any(
            record.nonce == nonce for record in self.outs.values()
        )


class Lane:
    """What Interests have in common that one face sends one after the other, for packets of one object: who asks and
    who was asked (face and share), the flags, the number of components, what an entry costs and what it takes with its
    in-record, the strategy, and where the nonce is in the packet (that is `wire[nonce_at:nonce_end]`).

    There are no hints, no CanBePrefix, no PIT token, and HopLimit is not used up.
    """

    __slots__ = (
        "asked_id", "asked_share", "asker_id", "asker_share", "cost", "depth", "each", "must_be_fresh", "nonce_at",
        "nonce_end", "strategy",
    )  # fmt: skip

    def __init__(self, asker: tuple[int, Share], asked: tuple[int, Share], *, strategy: Any) -> None:
        self.asker_id, self.asker_share = asker
        self.asked_id, self.asked_share = asked
        self.strategy = strategy
        self.must_be_fresh = False
        self.depth = self.cost = self.each = self.nonce_at = self.nonce_end = 0

    def entry(self, name: Name, wire: bytes, expires: float, sent: float) -> PitEntry:
        """One of them as an entry of its own, with its two records."""
        entry = PitEntry(name, False, self.must_be_fresh, (), self.depth, self.asker_share)
        nonce = wire[self.nonce_at : self.nonce_end]
        entry.ins[self.asker_id] = InRecord(wire, nonce, b"", expires, self.asker_share)
        entry.outs[self.asked_id] = OutRecord(nonce, expires, sent, 0.0, self.asked_share)
        entry.strategy, entry.expires = self.strategy, expires
        return entry


class Batch:
    """Interests that came together and went the same way: entries of the table for which nothing is kept but the packet
    as it was sent on, by name, in `wires`. One that something happens to alone becomes a PitEntry."""

    __slots__ = ("bucket", "expires", "sent", "lane", "wires")

    def __init__(self, lane: Lane, wires: dict[Name, bytes], expires: float, sent: float) -> None:
        self.lane = lane
        self.wires = wires
        self.expires = expires
        self.sent = sent
        self.bucket = -1
