"""Records of answers: made when somebody asks for one, published beside the stream.

Owns: when a record is made, what a producer's own state says for it, and the objects. Must not know: the form of a
record (evidence/answer.py), how answers are made.

A record can be had as long as its stream is in the producer's memory, and as long as the stream lives it stays once it
is made. One that nobody asks for is not signed, unless the store outlives this process, or so many answers came after
it that what it would say of its own takes too much memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import NdnInferError
from ndn_infer.evidence import answer as evidence
from ndn_infer.evidence.answer import AnswerClaim, AskedPrompt, ToldAnswer
from ndn_infer.evidence.answer_kv import CONTENT_STORE, LOCAL, PEER, PREFILLED, KvInput
from ndn_infer.functions.answer_stream import AnswerStream, Report
from ndn_infer.functions.base import Job
from ndn_infer.kv.prefix import Origin
from ndn_infer.namespace import TokenBlock
from ndn_infer.ndn.name import Name

log = logging.getLogger(__name__)

MOST_ANSWERS: Final = 4096
MOST_BYTES: Final = 8 << 20
"""Of answers of one function whose records can be had and are not made, and of their requests: the oldest are made."""


@dataclass(frozen=True, slots=True)
class PromptState:
    """What of a prompt is known by name: chain values of its full blocks, and names (URIs) of their KV."""

    values: Sequence[bytes] = ()
    kv_uris: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _ClaimedAnswer:
    """An answer that was told. Nothing of how it was made is kept: that would keep its KV."""

    claim: AnswerClaim
    job: Job
    stream: Name
    version: int

    @property
    def nbytes(self) -> int:
        """Of what is large in it."""
        job = self.job
        return len(job.wire) + len(job.envelope.request) + sum(len(kv.uri) for kv in self.claim.kv_blocks)


class AnswerRecords:
    """Of one function."""

    def __init__(self) -> None:
        self._told: OrderedDict[Name, _ClaimedAnswer] = OrderedDict()
        self._bytes = 0

    def follow(self, answer: AnswerStream, job: Job, state: Callable[[], PromptState]) -> None:
        """The answer was told: its record can be asked for, if its caller and this producer have it so."""
        if job.host.config.producer.records == "on" and job.envelope.evidence:
            asyncio.get_running_loop().call_soon(self._follow, answer, job, state)  # the last event leaves before

    def _follow(self, answer: AnswerStream, job: Job, state: Callable[[], PromptState]) -> None:
        told, bases = (
            _ClaimedAnswer(claim_of(answer, job, state()), job, answer.out.base, answer.out.version),
            _bases(job),
        )
        if job.host.config.producer.store_path:
            self._publish(told)
            return
        self._take(bases[0])
        self._told[bases[0]] = told
        self._bytes += told.nbytes
        for base in bases:
            job.host.server.promise_when_asked(base, partial(self._make, bases[0]))
        while len(self._told) > MOST_ANSWERS or self._bytes > MOST_BYTES:
            self._make(next(iter(self._told)))

    def _take(self, record: Name) -> _ClaimedAnswer | None:
        told = self._told.pop(record, None)
        self._bytes -= told.nbytes if told is not None else 0
        return told

    def _make(self, record: Name) -> None:
        """Unless its stream is gone: then nothing is here."""
        told = self._take(record)
        if told is None:
            return
        server = told.job.host.server
        if told.stream in server.store:
            self._publish(told)
        for base in _bases(told.job):
            server.break_promise(base, told.job.signer)

    def _publish(self, told: _ClaimedAnswer) -> None:
        """Record and request, beside the stream."""
        job, (record, request) = told.job, _bases(told.job)
        try:
            content = job.domain.seal(record, evidence.encode(told.claim, job.signer))
            for base, what in ((record, content), (request, job.wire)):
                job.host.server.publish(base, what, job.signer, version=told.version, beside=told.stream)
            job.host.counters["records"] += 1
        except NdnInferError as error:  # the answer does not depend on it
            log.warning("no record of %s: %s", told.claim.stream, error)


def _bases(job: Job) -> tuple[Name, Name]:
    """Names of the record and of the request."""
    result = job.call.result()
    return result.record().to_name(job.host.net), result.asked().to_name(job.host.net)


def claim_of(answer: AnswerStream, job: Job, state: PromptState) -> AnswerClaim:
    """What this producer says of an answer that was told."""
    net, call, request, last = job.host.net, job.call, answer.request, answer.last
    assert last is not None
    model = net + ndn.generic(call.subject_kind) + ndn.generic(call.subject)
    tokens = TokenBlock(call.subject, job.domain.label, state.values[-1].hex()).to_name(net) if state.values else b""
    return AnswerClaim(
        stream=ndn.to_uri(answer.out.name),
        request_uri=ndn.to_uri(call.result().asked().to_name(net)),
        request=call.request,
        model=ndn.to_uri(model),
        function=call.function,
        producer=ndn.to_uri(job.signer.identity),
        engine=request.engine,
        sampling=request.sampling,
        prompt=AskedPrompt.of(request.prompt, request.answered, ndn.to_uri(tokens) if tokens else ""),
        answer=ToldAnswer(
            answer.digest, evidence.ids_digest(answer.ids), len(answer.ids), last.finish, last.stopped_by
        ),
        kv=answer.report.sources,
        kv_blocks=tuple(kv_inputs(answer.report, state.kv_uris)),
        receipt=last.receipt,
        context=job.envelope.context,
        domain=job.domain.label,
        caller=ndn.to_uri(job.caller) if job.caller else "",
    )


def kv_inputs(report: Report, uris: Sequence[str]) -> Iterator[KvInput]:
    """Blocks of the prompt that were not computed for the answer; `uris` of all."""
    sources, origins = report.sources, report.origins
    prefilled = len(origins) - sources.prefilled
    for index, (origin, uri) in enumerate(zip(origins, uris, strict=False)):
        if index < sources.local:
            yield KvInput(index, uri, _version(origin), LOCAL, ndn.to_uri(origin.signer) if origin is not None else "")
        elif origin is not None:
            there = origin.found is not None and origin.found.arrival.from_content_store
            source = PREFILLED if index >= prefilled else CONTENT_STORE if there else PEER
            yield KvInput(index, uri, _version(origin), source, ndn.to_uri(origin.signer))


def _version(origin: Origin | None) -> int:
    if origin is None or origin.found is None or origin.found.manifest is None:
        return 0
    return ndn.component_number(ndn.components(origin.found.manifest.name)[-1], ndn.VERSION)
