"""The policies that API keys name, found once in a while.

Owns: how long one that was found is used before it is looked for again. Must not know: what policies say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ndn_infer import clock
from ndn_infer.client.guarding import DemandedPolicy

FRESH_S: Final = 60.0


class KeptPolicies:
    """`find` as Client.policy_of. Keys are few, and so are the policies that they name."""

    def __init__(self, find: Callable[[str], Awaitable[DemandedPolicy]]) -> None:
        self._find = find
        self._kept: dict[str, tuple[float, DemandedPolicy]] = {}

    async def __call__(self, text: str) -> DemandedPolicy:
        """Raises what `find` raises."""
        until, policy = self._kept.get(text, (0.0, None))
        if policy is None or clock.monotonic() >= until:
            policy = await self._find(text)
            self._kept[text] = clock.monotonic() + FRESH_S, policy
        return policy
