"""Prefix announcements: "I produce under this prefix", as a Data packet that others can carry.

Owns: the name and content format. Pure. Must not know: whether the signature is good, what becomes of the route.
Source: NDN prefix announcement protocol (redmine NFD wiki "PrefixAnnouncement"); ndn-cxx's PrefixAnnouncement.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import packet, tlv
from ndn_infer.ndn.name import Name

CONTENT_TYPE: Final = 5
KEYWORD: Final = ndn.keyword("PA")
ROUTE_COST: Final = 2048
"""Of routes that follow from announcements, as in NFD: any other route is better."""
ORIGIN: Final = 129


@dataclass(frozen=True, slots=True)
class PrefixAnnouncement:
    """`expiration_ms` counts from now on; `valid` are the first and last second of validity, Unix epoch, or None."""

    prefix: Name
    expiration_ms: int
    valid: tuple[float, float] | None

    def lifetime_s(self, wall_s: float) -> float:
        """How long a route may live that is made at `wall_s` (Unix epoch); 0 outside the validity."""
        if self.valid is None:
            return self.expiration_ms / 1000
        start, end = self.valid
        return min(self.expiration_ms / 1000, end - wall_s) if start <= wall_s <= end else 0.0


def decode_announcement(wire: bytes) -> PrefixAnnouncement:
    """Raises BadPacket."""
    data = packet.decode_data(wire)
    parts = ndn.components(data.name)
    types = [ndn.component_type(part) for part in parts[-2:]]
    named = len(parts) >= 3 and parts[-3] == KEYWORD and types == [ndn.VERSION, ndn.SEGMENT]
    if data.content_type != CONTENT_TYPE or not named:
        raise BadPacket("a prefix announcement is Data of content type 5 named <prefix>/32=PA/<version>/<segment>")
    expiration_ms, valid = None, None
    for kind, start, stop in tlv.iterate(data.content):
        if kind == 0x6D:
            expiration_ms = tlv.decode_nonneg(data.content[start:stop])
        elif kind == 0xFD:
            valid = _validity(data.content[start:stop])
        elif tlv.is_critical(kind):
            raise BadPacket(f"unknown element {kind} in a prefix announcement")
    if expiration_ms is None:
        raise BadPacket("a prefix announcement has an ExpirationPeriod")
    return PrefixAnnouncement(b"".join(parts[:-3]), expiration_ms, valid)


def _validity(wire: bytes) -> tuple[float, float]:
    found = {kind: wire[start:stop] for kind, start, stop in tlv.iterate(wire)}
    try:
        first, last = (datetime.strptime(found[kind].decode("ascii"), "%Y%m%dT%H%M%S") for kind in (0xFE, 0xFF))
    except (KeyError, ValueError) as error:
        raise BadPacket("a ValidityPeriod has two times as YYYYMMDDThhmmss") from error
    return first.replace(tzinfo=UTC).timestamp(), last.replace(tzinfo=UTC).timestamp()
