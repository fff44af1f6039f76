"""What every forwarding strategy is: the decisions it makes, what it is told, and the rules that several share.

Owns: the interface between pipeline and strategies. Pure. Must not know: which strategies there are, bytes. Source:
NFD developer guide, section 5.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

from ndn_infer.forwarder.core.fib import NextHop
from ndn_infer.forwarder.core.pit import PitEntry
from ndn_infer.ndn.name import ROOT, Name

SUPPRESS_INITIAL_S: Final = 0.010
SUPPRESS_MAX_S: Final = 0.250
SUPPRESS_FACTOR: Final = 2.0


class StrategyError(ValueError):
    """Version or parameters in a strategy's name are not what the strategy has. NFD answers 409 to such a command."""


class Probe(int):
    """A face that gets the Interest with a fresh Nonce, to see how well it does: where the paths meet again, a copy
    with the same Nonce would be a loop."""


class Strategy:
    """What a strategy decides. The hooks that only inform do nothing here; an adaptive strategy overrides them.

    `name` has the version of the strategy; where parameters were given, they follow it. `parameters` raise
    StrategyError. `rng` is what chance is drawn from.
    """

    name: Name = ROOT
    title = ""
    """As NFD's messages have it."""
    tells_loops = True
    """Whether a looping Interest is answered with Nack Duplicate."""
    asks_cheapest = False
    """Whether a new Interest goes to the cheapest next hop, always, and no hook that only informs does anything: then
    nobody need be asked for each of many."""
    asks_once = False
    """Whether an Interest of another face may wait for what was asked before."""
    asks_new_hops = False
    """Whether pending Interests go to next hops that come later."""

    def __init__(self, parameters: Mapping[str, str] | None = None, rng: random.Random | None = None) -> None:
        if parameters:
            raise StrategyError(f"this strategy takes no parameters, not even {next(iter(parameters))}")

    def choose(self, entry: PitEntry, hops: Sequence[NextHop], now: float, prefix: Name = ROOT) -> Sequence[int] | None:
        """Faces to send an Interest to; [] to stay quiet, None to refuse it with Nack NoRoute.

        `hops` are those that scope and HopLimit allow, cheapest first, without the face it came from; `prefix` is the
        FIB entry they are from. Face ids that are a Probe get the Interest with a fresh Nonce.
        """
        raise NotImplementedError

    def nacks(self, entry: PitEntry) -> tuple[int, Sequence[int]] | None:
        """After an upstream refused: the reason, and the downstreams to be told; None to wait on."""
        return None

    def on_nack(self, entry: PitEntry, face_id: int, now: float) -> None:
        """`face_id` refused; `nacks` is asked next."""

    def on_data(self, entry: PitEntry, face_id: int, now: float) -> None:
        """Data came from `face_id`; the entry's records are still there."""

    def on_late_data(self, name: Name, face_id: int, now: float) -> None:
        """Data that nobody waits for (any more): perhaps the slower of two answers."""

    def on_timeout(self, entry: PitEntry, now: float) -> None:
        """Nobody answered."""


def refusal(entry: PitEntry) -> tuple[int, Sequence[int]] | None:
    """Once everybody who was asked has refused, the least severe reason goes to all; when all but one have, and that
    one also asks us, it goes to that one alone: we two wait for each other (NFD, ProcessNackTraits)."""
    reasons = [record.nack_reason for record in entry.outs.values() if record.nack_reason is not None]
    reason = min((given for given in reasons if given), default=0)  # 0, no reason given, is the most severe
    waiting = [face_id for face_id, record in entry.outs.items() if record.nack_reason is None]
    if not waiting:
        return reason, list(entry.ins)
    if len(waiting) == 1 and waiting[0] in entry.ins:
        return reason, waiting
    return None
