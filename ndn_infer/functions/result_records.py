"""Records of results: what a producer says of what it gave, signed when somebody asks for it and not before.

Owns: for which results a record can be made, and the objects. Must not know: the form of a record (evidence/result.py),
what any result holds. Answers of models have theirs in answer_records.py.

A call costs a digest and two entries here; a record that nobody asks for is never signed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import NdnInferError
from ndn_infer.evidence import result as evidence
from ndn_infer.evidence.judge import digest_of
from ndn_infer.evidence.result import ResultClaim
from ndn_infer.functions.base import Job
from ndn_infer.transport.objects.live_stream import version_now

log = logging.getLogger(__name__)

MOST_RESULTS: Final = 1024
MOST_BYTES: Final = 8 << 20
"""Of results of one function whose records can be had, and of their requests; the oldest go."""


@dataclass(frozen=True, slots=True)
class MadeResult:
    """`sha256`: of the value, in clear."""

    job: Job
    sha256: str
    engine: str
    version: int


class ResultRecords:
    """Of one function."""

    def __init__(self) -> None:
        self._made: OrderedDict[bytes, MadeResult] = OrderedDict()
        self._bytes = 0

    def follow(self, job: Job, value: bytes, engine: str, version: int = 0) -> None:
        """A result was made: its record can be asked for, if its caller and this producer have it so. `version`: of the
        object that holds it; 0: it is in the answer itself."""
        if job.host.config.producer.records != "on" or not job.envelope.evidence:
            return
        result, net, server = job.call.result(), job.host.net, job.host.server
        base = result.record().to_name(net)
        if base in self._made:
            self._forget(base)
        made = MadeResult(job, digest_of(value), engine, version or version_now())
        self._made[base] = made
        self._bytes += len(job.wire)
        server.promise_when_asked(base, partial(self._record, base))
        server.promise_when_asked(result.asked().to_name(net), partial(self._request, base))
        while len(self._made) > MOST_RESULTS or self._bytes > MOST_BYTES:
            self._forget(next(iter(self._made)))

    def _record(self, base: bytes) -> None:
        made = self._made[base]
        job = made.job
        try:
            content = job.domain.seal(base, evidence.encode(claim_of(made), job.signer))
            job.host.server.publish(base, content, job.signer, version=made.version)
            job.host.counters["records"] += 1
        except NdnInferError as error:
            log.warning("no record of %s: %s", ndn.to_uri(base), error)
            job.host.server.break_promise(base, job.signer)

    def _request(self, base: bytes) -> None:
        made = self._made[base]
        job = made.job
        job.host.server.publish(
            job.call.result().asked().to_name(job.host.net), job.wire, job.signer, version=made.version
        )  # fmt: skip

    def _forget(self, base: bytes) -> None:
        job = self._made.pop(base).job
        self._bytes -= len(job.wire)
        for name in (base, job.call.result().asked().to_name(job.host.net)):
            job.host.server.break_promise(name, job.signer)


def claim_of(made: MadeResult) -> ResultClaim:
    """What this producer says of a result."""
    job, net = made.job, made.job.host.net
    call, result = job.call, job.call.result()
    of = net + ndn.generic(call.subject_kind) + ndn.generic(call.subject)
    return ResultClaim(
        result=ndn.to_uri(result.to_name(net)),
        sha256=made.sha256,
        request_uri=ndn.to_uri(result.asked().to_name(net)),
        request=call.request,
        of=ndn.to_uri(of),
        of_kind=call.subject_kind,
        function=call.function,
        producer=ndn.to_uri(job.signer.identity),
        engine=made.engine,
        context=job.envelope.context,
        domain=job.domain.label,
        caller=ndn.to_uri(job.caller) if job.caller else "",
    )
