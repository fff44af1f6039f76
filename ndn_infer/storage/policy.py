"""Who is forgotten last: policies of a store, by prefix.

Owns: what a policy says and its text form in the configuration. Must not know: stores, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadName, BadPacket, ConfigError
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


def parse_policies(text: str) -> list[Policy]:
    """From `/prefix=ttl:3600,share:0.25 /other=pin`. Raises ConfigError."""
    policies = []
    for item in text.split():
        uri, _, options = item.rpartition("=")
        values: dict[str, float | bool] = {}
        try:
            for option in options.split(","):
                key, _, value = option.partition(":")
                if key == "pin" and not value:
                    values["pin"] = True
                elif key in ("ttl", "share") and float(value) > 0 and (key == "ttl" or float(value) <= 1):
                    values["ttl_s" if key == "ttl" else "share"] = float(value)
                else:
                    raise ValueError(option)
            policies.append(Policy(ndn.from_uri(uri), **values))  # type: ignore[arg-type]
        except (ValueError, BadName, BadPacket) as error:
            raise ConfigError(
                f"{item!r} is not a store policy", hint="write /prefix=ttl:SECONDS,share:0.25 or /prefix=pin"
            ) from error
    return policies
