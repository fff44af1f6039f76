"""What fetching gives back.

Owns: objects, where they came from, counts. Must not know: how anything is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data
from ndn_infer.security.validator import Validated
from ndn_infer.transport.link.endpoint import Arrival
from ndn_infer.wire.manifest import Manifest
from ndn_infer.wire.puller import PullStats
from ndn_infer.wire.segments import uniform_bytes


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole object, verified. `source` says where its metadata came from; `segments_from_store` counts segments that
    this machine's Content Store gave. `seconds` is the time from asking for segments to the last byte. For `fresh_s`
    its producer lets it be taken for the newest."""

    name: Name
    content: bytes
    signed_by: Validated
    source: str
    segments: int
    segments_from_store: int
    seconds: float = 0.0
    fresh_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Placed:
    """A whole object, verified, in the reader's own memory: `size` bytes. The rest as in Fetched; `segments_from_store`
    is not counted for a sealed stream."""

    name: Name
    size: int
    signed_by: Validated
    segments: int
    segments_from_store: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Discovered:
    """A verified metadata packet. `manifest` is None when its producer says that it has no such object."""

    manifest: Manifest | None
    data: Data
    signed_by: Validated
    arrival: Arrival
    began: float = 0.0
    """When it was asked for, by clock.monotonic."""

    @property
    def fresh_s(self) -> float:
        """For so long it may be taken for the newest."""
        return self.data.freshness_ms / 1000

    @property
    def in_place(self) -> bool:
        """Whether every segment's place in the content is known before it is there."""
        manifest = self.manifest
        return manifest is not None and manifest.inline is None and uniform_bytes(manifest) > 0


@dataclass(slots=True)
class FetchStats:
    """What a fetcher did so far."""

    objects: int = 0
    content_bytes: int = 0
    bad_packets: int = 0
    pull: PullStats = field(default_factory=PullStats)

    def count(self, size: int) -> None:
        """One more object of `size` bytes."""
        self.objects += 1
        self.content_bytes += size
