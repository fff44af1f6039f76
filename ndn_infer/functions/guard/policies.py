"""The policies that a guard judges by: fetched by their names, which hold their digests, and kept ready.

Owns: which policies are ready, within bounds. Must not know: texts, verdicts.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import DigestMismatch
from ndn_infer.functions.base import Job
from ndn_infer.guard.judge import PolicyRules
from ndn_infer.guard.policy import WHERE, GuardPolicy, digest_of
from ndn_infer.guard.policy_form import decode
from ndn_infer.namespace import PolicyObject
from ndn_infer.records.guard import MAX_POLICY

MOST_READY: Final = 32


class ReadyPolicies:
    """The newest `MOST_READY`."""

    def __init__(self) -> None:
        self._ready: OrderedDict[str, dict[str, PolicyRules]] = OrderedDict()

    async def rules(self, digest: str, given: bytes, where: str, job: Job) -> PolicyRules:
        """Raises DigestMismatch, BadRecord, NetworkError, TrustError."""
        if digest not in self._ready:
            policy = await asyncio.to_thread(_read, given or await self._fetched(digest, job), digest)
            self._ready[digest] = await asyncio.to_thread(ready_rules, policy)
            while len(self._ready) > MOST_READY:
                self._ready.popitem(last=False)
        self._ready.move_to_end(digest)
        return self._ready[digest][where]

    async def _fetched(self, digest: str, job: Job) -> bytes:
        hints = (ndn.from_uri(job.envelope.caller),) if job.envelope.caller else ()
        base = PolicyObject(digest).to_name(job.host.net)
        return bytes((await job.host.fetcher.fetch(base, hints=hints, most=MAX_POLICY)).content)


def _read(wire: bytes, digest: str) -> GuardPolicy:
    if digest_of(wire) != digest:
        raise DigestMismatch("the policy is not the one whose digest is asked for")
    return decode(wire)


def ready_rules(policy: GuardPolicy) -> dict[str, PolicyRules]:
    """Rules for prompts and for answers, patterns compiled."""
    made = {where: PolicyRules(policy, where) for where in WHERE}
    for rules in made.values():
        _ = rules.by_id, rules.book, rules.wanted, rules.whole
    return made
