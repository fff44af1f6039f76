"""Policies: which calls a site or a tenant has recorded, in which log, by whom, and what happens while it is away.

Owns: finding the policy of a domain. Must not know: how options are written (config/values.py), logs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ndn_infer.config.values import log_policy
from ndn_infer.ndn.name import Name

GATEWAY: Final = "gateway"
DECODE: Final = "decode"
PRODUCERS: Final = "producers"
REFUSE: Final = "refuse"
_REST: Final = "*"


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """`domain` is `public`, a domain's id or `*`. With `refuse` a call is refused unless the log has it; else it waits
    in a spool, and so do answers in either case."""

    domain: str
    log: Name
    writer: str
    refuse: bool


def policies_of(texts: Iterable[str]) -> tuple[LogPolicy, ...]:
    """Raises ValueError."""
    found = map(log_policy, texts)
    return tuple(LogPolicy(domain, log, writer, away == REFUSE) for domain, log, writer, away in found)


def policy_for(policies: Iterable[LogPolicy], domain: str, *writers: str) -> LogPolicy | None:
    """What one of these `writers` is to do with calls in the domain of this label; None where none of them records
    any."""
    ident = domain.rpartition(".")[0] or domain
    by_domain = {policy.domain: policy for policy in policies}
    found = by_domain.get(ident) or by_domain.get(_REST)
    return found if found is not None and found.writer in writers else None
