"""A proof checked again, with keys and model alone.

Owns: what of a verdict has to hold before anybody is called faulty. Must not know: who made the verdict, networks.

Nothing that the auditor says is believed: the packets must be signed by the accused, and computing must come to the
same fault in them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ndn_infer import chain, ndn
from ndn_infer.errors import BadRecord
from ndn_infer.evidence.verdict import FAILED, KV, AuditVerdict, Fault, Proof
from ndn_infer.functions.audit.answer_check import AnswerCheck
from ndn_infer.functions.audit.auditor import AuditEngine
from ndn_infer.functions.audit.kv_check import KvCheck, judge
from ndn_infer.functions.audit.published_answer import read_answer
from ndn_infer.functions.audit.sample import AuditSample
from ndn_infer.kv.codec import encode_block
from ndn_infer.namespace import KvBlock, Result
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data, decode_data
from ndn_infer.security.certificate import parse
from ndn_infer.security.validator import Validator
from ndn_infer.wire.manifest import LASTING_FRESHNESS_MS, SEGMENT_BYTES, Manifest, decode_manifest
from ndn_infer.wire.segment_packets import segment_packets

WHOLE = ("end", "text")
"""Faults that only a whole answer shows."""


def model_of(verdict: AuditVerdict, net: Name) -> str:
    """The digest of the model that a proof is about, out of what the accused signed. Raises BadRecord."""
    if verdict.result != FAILED or verdict.proof is None or verdict.fault is None:
        raise BadRecord(f"this verdict ({verdict.result}) carries no proof: it is a word of its auditor")
    data = decode_data(verdict.proof.packets[0])
    if verdict.what == KV:
        block = KvBlock.parse(net, decode_manifest(data).base)
        if block is None:
            raise BadRecord("the proof is about no KV block of this network")
        return block.model
    return _result(net, data).subject


async def check_proof(verdict: AuditVerdict, validator: Validator, engine: AuditEngine) -> str:
    """What is wrong, in words, as it was found here. Raises BadRecord where the proof does not hold, a TrustError where
    the accused has not signed it, UsageError where this engine cannot tell."""
    fault, proof = verdict.fault, verdict.proof
    if model_of(verdict, validator.net) != engine.model or fault is None or proof is None:
        raise BadRecord("the proof is about another model")
    validator.add_certificates(*(parse(wire) for wire in proof.certificates))
    check = _check_kv if verdict.what == KV else _check_tokens
    return await check(fault, proof, validator, engine)


async def _check_tokens(fault: Fault, proof: Proof, validator: Validator, engine: AuditEngine) -> str:
    segments = tuple(decode_data(wire) for wire in proof.packets)
    result = _result(validator.net, segments[0])
    stream = ndn.prefix(segments[0].name, -1)
    for number, segment in enumerate(segments):
        if segment.name != stream + ndn.segment(number):
            raise BadRecord("the segments of a proof are those of one answer, from the first on")
        await _signed_by(fault, segment, validator)
    if fault.kind in WHOLE and segments[-1].final_block != ndn.segment(len(segments) - 1):
        raise BadRecord(f"a fault of the kind {fault.kind} shows in a whole answer only")
    request, said = read_answer(result, proof.request, segments)
    check = AnswerCheck(engine.worker, engine.engine, engine.tokenizer)
    if not check.exact_for(request):
        raise BadRecord(f"the answer is of class {request.engine}; an engine of {engine.engine} cannot prove anything")
    finding = await check.check(request, said, AuditSample())
    if not finding.proven or (finding.kind, finding.difference.index) != (fault.kind, fault.index):
        raise BadRecord("computed again, the answer is right as far as the proof shows it")
    return finding.words


async def _check_kv(fault: Fault, proof: Proof, validator: Validator, engine: AuditEngine) -> str:
    metadata = decode_data(proof.packets[0])
    await _signed_by(fault, metadata, validator)
    manifest = decode_manifest(metadata)
    check = KvCheck(validator.net, engine.model, engine.format, engine.worker)
    size = engine.format.layout.block_tokens
    values = chain.chain(proof.ids, size)
    if not check.able or not values or len(proof.ids) % size or manifest.base != check.base(values[-1]):
        raise BadRecord("the proof is not about the last block of its tokens, in the form that this engine computes")
    right = (await check.compute(proof.ids))[-1]
    content = encode_block(right, engine.format)
    if manifest.size != len(content):
        return f"it is no block of this model: it has {manifest.size} bytes, not {len(content)}"
    manifest, shown = _segments(manifest, [decode_data(wire) for wire in proof.packets[1:]])
    ours = segment_packets(manifest.name, content, SEGMENT_BYTES, freshness_ms=LASTING_FRESHNESS_MS)
    alike = {at for at, (_, _, digest) in enumerate(ours) if digest == manifest.digests[32 * at : 32 * at + 32]}
    if manifest.inline is not None and manifest.inline != content:
        shown = {0: manifest.inline}
    return judge(content, shown, alike, right, engine.format)


def _segments(manifest: Manifest, packets: Sequence[Data]) -> tuple[Manifest, dict[int, bytes]]:
    """The manifest with all digests, and contents of the segments among `packets`, by number: each is the one that the
    manifest names. Raises BadRecord, DigestMismatch."""
    upper = [data for data in packets if data.name.startswith(manifest.manifest_prefix)]
    if not manifest.digests:
        for number, data in enumerate(upper):
            if data.name != manifest.manifest_name(number):
                raise BadRecord("the proof lacks a part of the manifest")
            manifest.check_manifest_segment(number, data.wire)
        manifest = manifest.with_digests(b"".join(data.content for data in upper))
    shown = {}
    for data in packets[len(upper) :]:
        number = next((at for at in range(manifest.segments) if manifest.segment_name(at) == data.name), -1)
        if number < 0:
            raise BadRecord("the proof has a segment of something else")
        manifest.check_segment(number, data.wire)
        shown[number] = bytes(data.content)
    return manifest, shown


async def _signed_by(fault: Fault, data: Data, validator: Validator) -> None:
    signed = await validator.validate(data)
    if ndn.to_uri(signed.identity) != fault.identity:
        raise BadRecord(f"{ndn.to_uri(data.name)} is signed by {ndn.to_uri(signed.identity)}, not by the accused")


def _result(net: Name, data: Data) -> Result:
    result = Result.parse(net, ndn.prefix(data.name, -2))
    if result is None or (result.subject_kind, result.function) != ("model", "generate"):
        raise BadRecord("the proof is about no answer of this network")
    return result
