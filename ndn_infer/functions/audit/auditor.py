"""An auditor: from a name to a verdict.

Owns: what is fetched and computed for a verdict, which packets prove a fault. Must not know: who asked, where a verdict
is published, how a check computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor

from ndn_infer import clock, ndn
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.engine_class import EngineClass
from ndn_infer.errors import BadRecord, UsageError
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.statement import Resource
from ndn_infer.evidence.verdict import (
    EXACT,
    FAILED,
    KV,
    MAX_CERTIFICATES,
    MAX_PACKETS,
    PASSED,
    SUSPECTED,
    TOKENS,
    AuditVerdict,
    Fault,
    Proof,
    check_proof,
)  # fmt: skip
from ndn_infer.functions.audit.answer_check import AnswerCheck, AnswerFinding
from ndn_infer.functions.audit.kv_check import KvCheck, KvFinding, SignedBlock
from ndn_infer.functions.audit.published_answer import FetchedAnswer
from ndn_infer.functions.audit.sample import AuditSample
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.kv.codec import BlockFormat
from ndn_infer.namespace import Evidence, RequestObject, Result, Role
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import decode_data
from ndn_infer.security.certificate import split_locator
from ndn_infer.security.crypto import Signer
from ndn_infer.security.validator import Validator
from ndn_infer.transport.objects.fetch import Fetcher

VALID_S: Final = 30 * 86400.0
"""How long somebody is left out for a fault, unless the auditor says otherwise."""
TOPIC: Final = "verdict"
MAX_NAMED: Final = 256
"""KV blocks that a verdict names."""


@dataclass(frozen=True, slots=True)
class AuditEngine:
    """What computes: an engine that runs, of a class, for one model."""

    model: str
    worker: EngineWorker
    engine: EngineClass
    format: BlockFormat
    tokenizer: ChatTokenizer


class Auditor:
    """Audits over one network with one engine. Without a `fetcher` there is no KV of others, and tokens are computed
    all the same. `valid_s`: how long its verdicts hold."""

    def __init__(
        self, fetcher: Fetcher | None, validator: Validator, engine: AuditEngine, *, valid_s: float = VALID_S
    ) -> None:
        self._fetcher, self._validator, self._engine, self._valid_s = fetcher, validator, engine, valid_s
        self._answers = AnswerCheck(engine.worker, engine.engine, engine.tokenizer)
        self.kv_check = KvCheck(validator.net, engine.model, engine.format, engine.worker)

    async def tokens(self, answer: FetchedAnswer, sample: AuditSample) -> AuditVerdict:
        """Compute its tokens again; a sample of them after published KV. Where that is not the KV of these tokens, the
        verdict is about the KV. Raises UsageError (another model), ModelError."""
        self._check_model(answer)
        kv = await self._kv_before(answer, sample)
        if kv is None and (verdict := await self.kv(answer, AuditSample())).result != PASSED:
            return replace(verdict, share=float(sample.share), seed=sample.seed)
        finding = await self._answers.check(answer.request, answer.said, sample, kv or ())
        fault = proof = None
        if finding.kind:
            wrong = finding.difference
            fault = Fault(
                finding.kind, ndn.to_uri(answer.signed_by.identity), wrong.index, wrong.published, wrong.recomputed,
                min(wrong.margin, 1e9), finding.words,
            )  # fmt: skip
            proof = self._proof_of_tokens(answer, finding) if finding.proven else None
        verdict = replace(
            self._about(answer, TOKENS, sample), method=finding.method, units=finding.units, checked=finding.checked,
            seconds=float(finding.seconds),
        )  # fmt: skip
        return _judged(verdict, fault, proof)

    async def kv(self, answer: FetchedAnswer, sample: AuditSample) -> AuditVerdict:
        """Compute the KV of its prompt and tokens again, as far as somebody publishes it. Raises UsageError (another
        model, or KV of which honest computing is not known well enough), ModelError."""
        self._check_model(answer)
        if self._fetcher is None:
            raise UsageError("KV of others is fetched from a network, and none is running")
        if not self.kv_check.able:
            raise UsageError(
                f"KV of {self._engine.format.codec} cannot be audited",
                hint="raw bf16 KV of grouped attention on a CPU can: of it is known how honest ways differ",
            )
        ids = (*answer.request.prompt, *answer.said.ids)
        finding = await self.kv_check.check(self._fetcher, ids, sample, self._holders(answer))
        fault = proof = None
        if (wrong := finding.wrong) is not None and finding.difference is not None:
            said = finding.difference
            words = f"KV block {wrong.index}, layer {said.layer}, token {said.token}: {said.words}"
            identity = ndn.to_uri(wrong.signed_by.identity)
            fault = Fault("kv", identity, wrong.index, margin=min(said.off, 1e9), words=words)
            size = self._engine.format.layout.block_tokens
            proof = self._proof_of_kv(wrong, finding, ids[: (wrong.index + 1) * size])
        verdict = self._about(answer, KV, sample)
        verdict = replace(
            verdict, units=finding.blocks, checked=len({one.index for one in finding.looked}),
            inputs=(*verdict.inputs, *map(_block, finding.looked[:MAX_NAMED])), seconds=float(finding.seconds),
            subject=verdict.subject if wrong is None else Resource(wrong.name, "", "kv-block"),
        )  # fmt: skip
        return _judged(verdict, fault, proof)

    # ------------------------------------------------------------ inside

    async def _kv_before(self, answer: FetchedAnswer, sample: AuditSample) -> list[Tensor] | None:
        """KV blocks up to the last token that is drawn, as they are published; none where they are of no use for an
        exact check. None: they are not those of the answer's tokens."""
        check, prompt, said = self.kv_check, answer.request.prompt, answer.said
        useful = check.able and said.ids and self._answers.exact_for(answer.request)
        if sample.share >= 1.0 or self._fetcher is None or not useful:
            return []
        size = self._engine.format.layout.block_tokens
        end, ids = sample.spans(len(prompt), len(said.ids), size)[-1].end, (*prompt, *said.ids)
        found = await check.published(self._fetcher, ids, (len(prompt) + end) // size, self._holders(answer))
        try:
            blocks = [check.decode(signed) for signed in found]
        except BadRecord:
            return None
        return blocks if not blocks or await check.first_layer_holds(ids, blocks) else None

    @staticmethod
    def _holders(answer: FetchedAnswer) -> list[Name]:
        return [ndn.from_uri(holder) for holder in answer.said.holders]

    def _about(self, answer: FetchedAnswer, what: str, sample: AuditSample) -> AuditVerdict:
        """The verdict that nothing is wrong, without what was checked."""
        now = clock.wall_us()
        return AuditVerdict(
            Resource(answer.uri, answer.digest, "answer"), self._inputs(answer), what, EXACT, PASSED,
            str(self._engine.engine), answer.request.engine, 0, 0, float(sample.share), sample.seed, now,
            now + round(self._valid_s * 1e6),
        )  # fmt: skip

    def _check_model(self, answer: FetchedAnswer) -> None:
        if answer.model != self._engine.model:
            raise UsageError(f"the answer is of model {answer.model[:16]}, this engine has {self._engine.model[:16]}")

    def _inputs(self, answer: FetchedAnswer) -> tuple[Resource, ...]:
        net = self._validator.net
        result = Result.parse(net, ndn.prefix(answer.name, -1))
        assert result is not None
        request = RequestObject(result.subject_kind, result.subject, result.function, result.request)
        name = ndn.to_uri(request.to_name(net))
        return Resource(name, result.request, "request"), Resource(f"model:{answer.model}", answer.model, "model")

    def _proof_of_tokens(self, answer: FetchedAnswer, finding: AnswerFinding) -> Proof | None:
        """The segments up to the fault; all of them where the end is wrong. None where they are too many."""
        whole = finding.kind in ("end", "text")
        count = len(answer.segments) if whole else answer.said.events_for(finding.difference.index + 1)
        if count > MAX_PACKETS:
            return None
        packets = tuple(segment.wire for segment in answer.segments[:count])
        return _fitting(Proof(packets, self._certificates(answer.segments[0].wire), answer.request_wire))

    def _proof_of_kv(self, wrong: SignedBlock, finding: KvFinding, ids: Sequence[int]) -> Proof | None:
        manifest, packets = wrong.packets.manifest, wrong.packets.packets
        shown = [packets[manifest.segment_name(at)] for at in finding.segments]
        upper = [wire for name, wire in packets.items() if name.startswith(manifest.manifest_prefix)]
        certificates = self._certificates(wrong.packets.metadata)
        return _fitting(Proof((wrong.packets.metadata, *upper, *shown), certificates, ids=tuple(ids)))

    def _certificates(self, wire: bytes) -> tuple[bytes, ...]:
        """Of the signer of a verified packet and its issuers, but for the anchor."""
        found: list[bytes] = []
        locator = decode_data(wire).signature_info.key_locator
        while locator is not None and len(found) < MAX_CERTIFICATES:
            located = split_locator(locator)
            certificate = None if located is None else self._validator.certified(located.key_name)
            if certificate is None or certificate.self_signed:
                break
            found.append(certificate.wire)
            locator = certificate.issuer_locator
        return tuple(found)


def _judged(verdict: AuditVerdict, fault: Fault | None, proof: Proof | None) -> AuditVerdict:
    result = PASSED if fault is None else FAILED if proof is not None else SUSPECTED
    return replace(verdict, result=result, fault=fault, proof=proof)


def _fitting(proof: Proof) -> Proof | None:
    """A proof that is too large is none."""
    try:
        check_proof(proof)
    except BadRecord:
        return None
    return proof


def _block(signed: SignedBlock) -> Resource:
    return Resource(signed.name, "", "kv-block", {"signer": ndn.to_uri(signed.signed_by.identity)})


def envelope_of(verdict: AuditVerdict, signer: Signer) -> bytes:
    """The verdict as it is published and filed: a DSSE envelope. Raises BadRecord."""
    return dsse.encode(dsse.sign(statement.encode(verdict.statement()), signer))


def name_of(net: Name, signer: Signer, content: bytes) -> Name:
    """The name under which this identity publishes a verdict."""
    role = Role.parse(net, signer.identity)
    assert role is not None
    return Evidence(role.site, role.node, role.role, "public", TOPIC, hashlib.sha256(content).hexdigest()).to_name(net)
