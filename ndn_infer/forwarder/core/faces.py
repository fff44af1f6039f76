"""Faces: what the forwarder knows of each neighbour.

Owns: the face record in NFD's terms. Pure: a face sends through its link service. Must not know: forwarding, sockets.
Source: NFD developer guide, section 2; NFD management protocol, FaceStatus.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer.forwarder.core.alike import Memory
from ndn_infer.forwarder.core.pit_records import Share
from ndn_infer.forwarder.link.counters import FaceCounters
from ndn_infer.forwarder.link.link_service import LinkService

MANAGEMENT_FACE_ID: Final = 1
FIRST_FACE_ID: Final = 256
"""Face ids below are reserved, as in NFD (254 is the Content Store)."""

PERSISTENT: Final = 0
ON_DEMAND: Final = 1
PERMANENT: Final = 2


# What happens to faces, in the numbers of NFD's notifications.
CREATED: Final = 1
DESTROYED: Final = 2
UP: Final = 3
DOWN: Final = 4


def _nothing() -> None:
    return


@dataclass(slots=True, eq=False)
class Face:
    """One face. `local` decides about /localhost. `private`: only programs that the permission bits of a Unix socket
    admit can be at the other end; a port of this machine is open to all its users, and to web pages.
    `allowed_persistency` is what faces/update may set.

    `close` ends the transport; the shell then takes the face out of the forwarder. `expires_in_s` says after how much
    more silence the face goes away (None: never). `share` is what it has in the PIT; `asks` and `gives` remember the
    shapes of the Interests and Data that it sent (bursts.py).
    """

    id: int
    uri: str
    local_uri: str
    link: LinkService
    local: bool = False
    persistency: int = PERSISTENT
    allowed_persistency: frozenset[int] = frozenset({ON_DEMAND})
    close: Callable[[], None] = _nothing
    expires_in_s: Callable[[], float | None] = lambda: None
    private: bool = False
    share: Share = field(default_factory=Share)
    asks: Memory[Any] = field(default_factory=Memory)
    gives: Memory[Any] = field(default_factory=Memory)
    counters: FaceCounters = field(init=False)

    def __post_init__(self) -> None:
        self.counters = self.link.counters
