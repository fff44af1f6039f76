"""Counters of faces and of the forwarder, and the form of a trace. Owns: their names. Must not know: who counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ndn_infer.ndn.name import Name

Trace = Callable[[float, str, int, str, Name, str], None]
"""Told of every packet: (now, "in", "out", "drop" or "hit", face id, kind of packet, name, why)."""


@dataclass(slots=True)
class FaceCounters:
    """As in NFD's FaceStatus; those after `out_bytes` are ours and say why packets did not get through.

    `malformed`: not what the specifications allow. `dropped`: refused by a rule (HopLimit 0, NextHopFaceId without
    local fields). `queue_drops`: the peer reads too slowly, or the system refused the datagram.
    """

    in_interests: int = 0
    in_data: int = 0
    in_nacks: int = 0
    out_interests: int = 0
    out_data: int = 0
    out_nacks: int = 0
    in_bytes: int = 0
    out_bytes: int = 0
    malformed: int = 0
    dropped: int = 0
    queue_drops: int = 0
    marked: int = 0


@dataclass(slots=True)
class ForwarderCounters:
    """As in NFD's general status; those after `unsatisfied` say why packets were dropped."""

    in_interests: int = 0
    in_data: int = 0
    in_nacks: int = 0
    out_interests: int = 0
    out_data: int = 0
    out_nacks: int = 0
    satisfied: int = 0
    unsatisfied: int = 0
    unsolicited: int = 0
    loops: int = 0
    scope_violations: int = 0
    no_route: int = 0
    pit_full: int = 0
