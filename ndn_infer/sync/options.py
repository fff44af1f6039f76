"""What a membership is told, and what it tells: options, members, counts. Owns: the defaults. Must not know: how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ndn_infer import clock
from ndn_infer.ndn.name import Name
from ndn_infer.sync.core.state import Options
from ndn_infer.sync.fetching import FetchOptions


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """`kept` publications of our own can be asked for; `relay_bytes` bounds what is kept of others. `peers`: members
    to pull from every `pull_s`. `seed` 0: random."""

    core: Options = Options()
    fetch: FetchOptions = FetchOptions()
    peers: tuple[Name, ...] = ()
    pull_s: float = 10.0
    kept: int = 64
    relay_bytes: int = 16 << 20
    seed: int = 0
    wall_us: Callable[[], int] = clock.wall_us


@dataclass(frozen=True, slots=True)
class Member:
    """What is known of a member since `boot`; `updated`: seconds ago that its number rose."""

    name: Name
    boot: int
    sequence: int
    updated: float


@dataclass(slots=True)
class SyncCounts:
    """Sync Interests. `copies` were seen before, `rejected` failed verification or made no sense, `dropped` came while
    too many were being verified; bytes are of whole packets."""

    sent: int = 0
    sent_bytes: int = 0
    taken: int = 0
    taken_bytes: int = 0
    copies: int = 0
    rejected: int = 0
    dropped: int = 0
    pulls: int = 0
    pulls_failed: int = 0
