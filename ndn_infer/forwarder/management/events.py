"""Face events: who came, who went, as a stream of notifications.

Owns: the bytes of FaceEventNotification, their numbering, the last ones for those who ask late. Pure. Must not know:
faces' transports, the PIT. Source: NFD management protocol, FaceMgmt "Face Status Change Notification"; ndn-cxx's
NotificationStream and NotificationSubscriber.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ndn_infer import ndn
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.management.encoding import number, numbers, text
from ndn_infer.ndn import packet
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.tlv import encode_tlv

PREFIX: Final = ndn.from_uri("/localhost/nfd/faces/events")
FRESHNESS_S: Final = 1.0
REMEMBERED: Final = 256


class FaceEvents:
    """`post` makes the next notification (kinds: faces.py), `find` answers an Interest, `awaited` notes that somebody
    waits."""

    def __init__(self) -> None:
        self._next = 0
        self._last_posted = -FRESHNESS_S
        self._stored: OrderedDict[Name, bytes] = OrderedDict()
        self._awaited_until = 0.0

    def post(self, kind: int, face: Face, flags: int, now: float) -> bytes | None:
        """Number an event; its Data when somebody waits for it, None when nobody does."""
        name = PREFIX + ndn.sequence(self._next)
        self._next += 1
        self._last_posted = now
        wire = packet.encode_data(name, notification(kind, face, flags), freshness_ms=int(FRESHNESS_S * 1000))
        self._stored[name] = wire
        if len(self._stored) > REMEMBERED:
            self._stored.popitem(last=False)
        return wire if now < self._awaited_until else None

    def find(self, name: Name, now: float) -> bytes | None:
        """The notification of this name, or for the stream's name the last one while it is fresh."""
        if name == PREFIX:
            if not self._stored or now - self._last_posted > FRESHNESS_S:
                return None
            return next(reversed(self._stored.values()))
        return self._stored.get(name)

    def awaited(self, until: float) -> None:
        """Somebody waits for the next event until then (monotonic seconds)."""
        self._awaited_until = max(self._awaited_until, until)


def notification(kind: int, face: Face, flags: int) -> bytes:
    """A FaceEventNotification element."""
    head = number(0xC1, kind) + number(0x69, face.id) + text(0x72, face.uri) + text(0x81, face.local_uri)
    tail = numbers({0x84: int(face.local), 0x85: face.persistency, 0x86: 0, 0x6C: flags})
    return encode_tlv(0xC0, head + tail)
