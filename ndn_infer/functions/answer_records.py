"""Records of answers: made after the last event, published beside the stream.

Owns: when a record is made, what a producer's own state says for it, and the objects. Must not know: the form of a
record (evidence/answer.py), how answers are made.

Nothing of it happens before the last event has left: then a task signs the record. It lives as long as its stream does
in the producer's memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class PromptState:
    """What of a prompt is known by name: chain values of its full blocks, and names (URIs) of their KV."""

    values: Sequence[bytes] = ()
    kv_uris: Sequence[str] = ()


class AnswerRecords:
    """Of one function."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, answer: AnswerStream, job: Job, state: PromptState) -> None:
        """The answer was told: its record is going to be here soon, if its caller and this producer have it so. Whoever
        asks for it meanwhile waits."""
        if job.host.config.producer.records != "on" or not job.envelope.evidence:
            return
        for base in _bases(job):
            job.host.server.promise(base)
        task = asyncio.get_running_loop().create_task(self._publish(answer, job, state))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _publish(self, answer: AnswerStream, job: Job, state: PromptState) -> None:
        server, (record, request) = job.host.server, _bases(job)
        try:
            content = job.domain.seal(record, evidence.encode(claim_of(answer, job, state), job.signer))
            for base, what in ((record, content), (request, job.wire)):
                server.publish(base, what, job.signer, version=answer.out.version, beside=answer.out.base)
            job.host.counters["records"] += 1
        except NdnInferError as error:  # the answer does not depend on it
            log.warning("no record of %s: %s", ndn.to_uri(answer.out.name), error)
        finally:
            for base in (record, request):
                server.break_promise(base, job.signer)


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
