"""audit: computes answers of the network again, those it is asked about and some of those it hears of.

Owns: the function, the published verdicts, and which producers are asked what they made. Must not know: how an answer
is checked (auditor.py).

An auditor hears of answers by asking producers, and asks seldom while they make none. Answers of tenants it cannot
read, and is not told of.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from pathlib import Path
from typing import Final

from ndn_infer import ndn
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.errors import NdnInferError
from ndn_infer.evidence.verdict import AuditVerdict
from ndn_infer.functions.audit.auditor import AuditEngine, Auditor, envelope_of, name_of
from ndn_infer.functions.audit.published_answer import base_of, fetch_answer
from ndn_infer.functions.audit.sample import AuditSample
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.engine_host import EngineHost
from ndn_infer.ndn.name import Name
from ndn_infer.records.audit import (
    MADE,
    MOST_VERDICTS,
    VERDICTS,
    AuditDone,
    AuditRequest,
    FoundFault,
    FoundFaults,
    MadeAnswers,
    MadeQuery,
    VerdictQuery,
)  # fmt: skip
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.calls.direct import DirectAsk, Topic

log = logging.getLogger(__name__)

SLOWER: Final = 8
"""So many times `audit.every_s` pass at most between two questions while nothing is made."""
MOST_KNOWN: Final = 1024
"""Producers whose last answer is remembered."""
AT_ONCE: Final = 16
"""Answers of one round that are audited at most."""


class AuditAnswers(NamedFunction[AuditRequest]):
    function = "audit"
    role = "audit"
    request_type = AuditRequest
    quick_s = 0.0  # nothing about it is quick: callers are told where the verdict will be

    def __init__(self, model: str, folder: Path, engine: EngineHost) -> None:
        self.subject = ("model", model)
        self._folder, self._engine = folder, engine
        self._auditor: Auditor | None = None
        self._faults: deque[FoundFault] = deque(maxlen=MOST_VERDICTS)
        self._after: dict[Name, int] = {}
        self._watch: asyncio.Task[None] | None = None

    async def start(self, host: Host, signer: Signer) -> None:
        await self._engine.start(host, signer)
        tokenizer = await asyncio.to_thread(ChatTokenizer.load, self._folder)
        assert self._engine.format is not None
        engine = AuditEngine(
            self.subject[1], self._engine.worker, self._engine.engine_class, self._engine.format, tokenizer
        )  # fmt: skip
        valid_s = host.config.audit.valid_days * 86400
        self._auditor = Auditor(host.fetcher, host.validator, engine, valid_s=valid_s)
        found = Topic(VERDICTS, VerdictQuery, lambda query, _: FoundFaults(tuple(self._faults)), freshness_ms=1000)
        host.questions.answer(found, signer)
        if host.config.audit.rate > 0 and host.offers is not None:
            self._watch = asyncio.get_running_loop().create_task(self._watching(host, signer))

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._engine.close()

    def engine_class(self) -> str:
        return str(self._engine.engine_class)

    async def run(self, request: AuditRequest, job: Job) -> AuditDone:
        verdict, name = await self._audit(request, job.host, job.signer)
        words = "" if verdict.fault is None else verdict.fault.words
        return AuditDone(ndn.to_uri(name), ndn.to_uri(job.hint), verdict.result, words)

    async def _audit(self, request: AuditRequest, host: Host, signer: Signer) -> tuple[AuditVerdict, Name]:
        """Compute, sign, publish."""
        assert self._auditor is not None
        base, version = base_of(ndn.from_uri(request.name))
        answer = await fetch_answer(host.fetcher, host.validator, base, version)
        sample = AuditSample(request.share, request.seed)
        verdict = await (self._auditor.kv if request.kv else self._auditor.tokens)(answer, sample)
        content = envelope_of(verdict, signer)
        name = name_of(host.net, signer, content)
        host.server.publish(name, content, signer)
        host.counters[f"audits_{verdict.result}"] += 1
        log.info("audit of %s: %s, %d of %d", request.name, verdict.result, verdict.checked, verdict.units)
        if verdict.proof is not None and verdict.fault is not None:
            self._faults.append(
                FoundFault(verdict.fault.identity, verdict.until_us, ndn.to_uri(name), verdict.fault.words)
            )  # fmt: skip
        return verdict, name

    # ------------------------------------------------------------ answers that it hears of

    async def _watching(self, host: Host, signer: Signer) -> None:
        every_s = pause_s = host.config.audit.every_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                heard = await self.look(host, signer)
            except Exception:
                log.exception("answers of others cannot be audited")
                heard = 0
            pause_s = every_s if heard else min(2 * pause_s, SLOWER * every_s)

    async def look(self, host: Host, signer: Signer, rng: random.Random | None = None) -> int:
        """Ask every producer of this model once, audit the configured share of what it made since. How many answers
        were heard of."""
        assert host.offers is not None
        rng = rng or random.SystemRandom()
        await host.offers.look()
        identities = {
            entry.identity for entry in host.offers.entries()
            if any((one.function, one.subject) == ("generate", self.subject[1]) for one in entry.offer.functions)
        }  # fmt: skip
        heard = [name for identity in sorted(identities) for name in await self._made(host, identity)]
        drawn = [name for name in heard if rng.random() < host.config.audit.rate]
        for name in drawn[:AT_ONCE]:
            await self._audit_heard(name, host, signer, rng.getrandbits(53))
        return len(heard)

    async def _audit_heard(self, name: str, host: Host, signer: Signer, seed: int) -> None:
        settings = host.config.audit
        asked = [AuditRequest(name, settings.share, seed)]
        if settings.kv > 0:
            asked.append(AuditRequest(name, settings.kv, seed, kv=True))
        for request in asked:
            try:
                await self._audit(request, host, signer)
            except NdnInferError as error:
                host.counters["audits_impossible"] += 1
                log.info("%s cannot be audited: %s", name, error)

    async def _made(self, host: Host, identity: Name) -> list[str]:
        query = MadeQuery(self.subject[1], self._after.get(identity, 0))
        try:
            told = await host.caller.direct.ask(DirectAsk(identity, MADE, query), MadeAnswers)
            versions = [base_of(ndn.from_uri(name))[1] or 0 for name in told.record.names]
        except NdnInferError as error:
            log.debug("%s does not say what it made: %s", ndn.to_uri(identity), error)
            return []
        if versions:
            self._after.pop(identity, None)
            self._after[identity] = max(versions)
            while len(self._after) > MOST_KNOWN:
                del self._after[next(iter(self._after))]
        return list(told.record.names)
