"""Which objects a store evicts last, by prefix.

Owns: what a policy says. Must not know: stores, files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ndn_infer.config.values import store_policy
from ndn_infer.ndn.name import Name


@dataclass(frozen=True, slots=True)
class Policy:
    """For objects below `prefix`: forgotten `ttl_s` seconds after they were stored; pinned; beyond `share` (0 to 1) of
    the store first to go, within it last."""

    prefix: Name = b""
    ttl_s: float = float("inf")
    share: float = 1.0
    pin: bool = False


DEFAULT_POLICY: Final = Policy()


def policy_of(policies: Sequence[Policy], name: Name) -> Policy:
    """The policy of the longest prefix; `policies` are in that order (longest first)."""
    for policy in policies:
        if name.startswith(policy.prefix):
            return policy
    return DEFAULT_POLICY


def policies_of(items: Iterable[str]) -> list[Policy]:
    """What option producer.store_policies says."""
    return [Policy(*store_policy(item)) for item in items]
