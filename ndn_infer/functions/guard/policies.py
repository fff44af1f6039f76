"""The policies that a guard judges by: fetched by their names, which hold their digests, and kept ready.

Owns: which policies are ready, within bounds. Must not know: texts, verdicts.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final
from weakref import WeakSet

from ndn_infer import ndn
from ndn_infer.errors import Busy, DigestMismatch
from ndn_infer.functions.base import Job
from ndn_infer.guard.judge import PolicyRules
from ndn_infer.guard.phrases import PhraseBook
from ndn_infer.guard.policy import WHERE, GuardPolicy, digest_of
from ndn_infer.guard.policy_form import decode
from ndn_infer.namespace import PolicyObject
from ndn_infer.records.guard import MAX_POLICY

MOST_READY: Final = 32


MOST_STATES: Final = 4 << 20
"""Of the books of phrases of all policies that are ready or in use: about 100 MB."""


class ReadyPolicies:
    """The newest `MOST_READY`, made one at a time: a policy comes from whoever asks."""

    def __init__(self, most_states: int = MOST_STATES) -> None:
        self._ready: OrderedDict[str, dict[str, PolicyRules]] = OrderedDict()
        self._most_states = most_states
        self._books: WeakSet[PhraseBook] = WeakSet()
        """All that are in memory, those of answers that are judged yet too."""
        self._making = asyncio.Lock()

    async def rules(self, digest: str, given: bytes, where: str, job: Job) -> PolicyRules:
        """Raises DigestMismatch, BadRecord, NetworkError, TrustError; Busy where policies in use leave no room."""
        if (ready := self._ready.get(digest)) is None:
            wire = given or await self._fetched(digest, job)
            async with self._making:
                if (ready := self._ready.get(digest)) is None:
                    ready = await self._make(wire, digest)
        if digest in self._ready:
            self._ready.move_to_end(digest)
        return ready[where]

    async def _make(self, wire: bytes, digest: str) -> dict[str, PolicyRules]:
        policy = await asyncio.to_thread(_read, wire, digest)
        made = await asyncio.to_thread(ready_rules, policy)
        self._books.update(rules.book for rules in made.values())
        while self._ready and (len(self._ready) >= MOST_READY or self._states() > self._most_states):
            self._ready.popitem(last=False)
        if self._states() > self._most_states:
            raise Busy("policies that are in use leave no room for the phrases of this one; try again later")
        self._ready[digest] = made
        return made

    def _states(self) -> int:
        return sum(book.states for book in self._books)

    async def _fetched(self, digest: str, job: Job) -> bytes:
        hints = (ndn.from_uri(job.envelope.caller),) if job.envelope.caller else ()
        base = PolicyObject(digest).to_name(job.host.net)
        return bytes((await job.host.fetcher.fetch(base, hints=hints, most=MAX_POLICY)).content)


def _read(wire: bytes, digest: str) -> GuardPolicy:
    if digest_of(wire) != digest:
        raise DigestMismatch("the policy is not the one whose digest is asked for")
    return decode(wire)


def ready_rules(policy: GuardPolicy) -> dict[str, PolicyRules]:
    """Rules for prompts and for answers, patterns compiled. Raises BadRecord."""
    books: dict[tuple[tuple[str, str], ...], PhraseBook] = {}
    made = {where: PolicyRules(policy, where, books) for where in WHERE}
    for rules in made.values():
        _ = rules.by_id, rules.book, rules.wanted, rules.whole
    return made
