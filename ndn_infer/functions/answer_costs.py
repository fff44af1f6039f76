"""Which of the engine's costs belong to one answer.

Owns: the streams that were computed for it. Must not know: how costs are measured (engine/step_costs.py), how they are
told (receipts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ndn_infer.engine.step_costs import EngineSpent
from ndn_infer.functions.engine_host import EngineHost
from ndn_infer.ndn.name import Name

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class AnswerCosts:
    """What the engine's streams for one answer took: most often one, and the head of a prompt that was computed while
    its tail was fetched."""

    _parts: list[EngineSpent] = field(default_factory=list)

    def of(self, spent: EngineSpent) -> None:
        """This one is for the answer; it may grow still."""
        if not any(spent is part for part in self._parts):
            self._parts.append(spent)

    def sum(self) -> EngineSpent:
        parts = self._parts
        return EngineSpent(
            sum(part.prefill_s for part in parts), sum(part.decode_s for part in parts),
            sum(part.helpers_s for part in parts), sum(part.joules for part in parts),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChargedEngine:
    """The engine as a BlockComputer, for one answer, which is charged with what is computed."""

    engine: EngineHost
    costs: AnswerCosts

    @property
    def layers(self) -> str:
        return self.engine.layers

    @property
    def known_as(self) -> frozenset[Name]:
        """As EngineHost.known_as."""
        return self.engine.known_as

    def prefilled(self) -> tuple[int, float]:
        """As EngineHost.prefilled."""
        return self.engine.prefilled()

    async def prefill(
        self, ids: Sequence[int], prefix: Sequence[Tensor], on_block: Callable[[int, Tensor], None], *,
        prompt_tokens: int = 0, cache_salt: str = "",
    ) -> None:  # fmt: skip
        """As EngineHost.prefill."""
        self.costs.of(
            await self.engine.prefill(ids, prefix, on_block, prompt_tokens=prompt_tokens, cache_salt=cache_salt)
        )
