"""What the layers of a pipeline took for one answer, or for one step of it.

Owns: sums by stage. Must not know: how anything is measured (engine/step_costs.py), who is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ndn_infer.engine.step_costs import EngineSpent
from ndn_infer.records.receipt import MAX_STAGES, StageSpent


@dataclass(slots=True)
class StageCosts:
    """`own`: in the layers that are here; `before`: at the stages before, by identity (URI), as they say."""

    own: EngineSpent = field(default_factory=EngineSpent)
    before: dict[str, StageSpent] = field(default_factory=dict)

    def add(self, told: Iterable[StageSpent]) -> None:
        """What a stage said of one step. Identities beyond MAX_STAGES - 1 are not counted."""
        for one in told:
            known = self.before.get(one.identity, StageSpent(one.identity))
            if one.identity in self.before or len(self.before) < MAX_STAGES - 1:
                self.before[one.identity] = StageSpent(
                    one.identity, known.prefill_us + one.prefill_us, known.decode_us + one.decode_us
                )  # fmt: skip

    def told(self, identity: str = "") -> tuple[StageSpent, ...]:
        """All stages before, in order of their names; with `identity` this one too, as the last."""
        found = [self.before[name] for name in sorted(self.before)]
        if identity:
            found.append(StageSpent(identity, round(self.own.prefill_s * 1e6), round(self.own.decode_s * 1e6)))
        return tuple(found)
