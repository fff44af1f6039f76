"""Verdicts: what is written is read, what contradicts itself is refused, faults end."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.errors import BadRecord, NdnInferError
from ndn_infer.evidence import statement
from ndn_infer.evidence.statement import Resource
from ndn_infer.evidence.verdict import (
    EXACT,
    FAILED,
    FAULTS,
    KV,
    MARGIN,
    MAX_PROOF_BYTES,
    PASSED,
    SUSPECTED,
    TOKENS,
    AuditVerdict,
    Fault,
    FaultBook,
    KnownFault,
    Proof,
)  # fmt: skip

PASSED_ONE = AuditVerdict(
    Resource("/n/a/v=1", "ab" * 32, "answer"), (Resource("/n/r", "cd" * 32, "request"),), TOKENS, EXACT, PASSED,
    "bf16.bf16.x.grouped.y.raw", "bf16.bf16.x.grouped.y.raw", 10, 10, 1.0, 7, 1000, 2000,
)  # fmt: skip
FAULT = Fault("token", "/n/home/n1/decode", 3, 5, 6, 0.25, "token 3")
FAILED_ONE = replace(PASSED_ONE, result=FAILED, fault=FAULT, proof=Proof((b"\x06\x00",), (b"\x06\x01\x00",), b"\x80"))

faults = st.builds(
    Fault, st.sampled_from(FAULTS), st.text(max_size=20), st.integers(0, 1 << 40), st.integers(-1, 1 << 32),
    st.integers(-1, 1 << 32), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20),
)  # fmt: skip
proofs = st.builds(
    Proof, st.lists(st.binary(max_size=40), min_size=1, max_size=4).map(tuple),
    st.lists(st.binary(max_size=40), max_size=3).map(tuple), st.binary(max_size=40),
    st.lists(st.integers(0, (1 << 32) - 1), max_size=8).map(tuple),
)  # fmt: skip


def read(verdict: AuditVerdict) -> AuditVerdict:
    return AuditVerdict.of(statement.decode(statement.encode(verdict.statement())))


@given(faults, proofs, st.sampled_from([TOKENS, KV]), st.integers(0, (1 << 64) - 1), st.floats(0.001, 1.0))
def test_what_is_written_is_read(fault: Fault, proof: Proof, what: str, seed: int, share: float) -> None:
    failed = replace(FAILED_ONE, fault=fault, proof=proof, what=what, seed=seed, share=share)
    assert read(failed) == failed
    suspected = replace(failed, result=SUSPECTED, proof=None, method=MARGIN)
    assert read(suspected) == suspected
    assert read(PASSED_ONE) == PASSED_ONE


@pytest.mark.parametrize(
    "change",
    [
        {"result": FAILED}, {"fault": FAULT}, {"checked": 11}, {"share": 0.0}, {"share": 1.5}, {"until_us": 999},
        {"what": "else"}, {"method": "guess"}, {"seed": -1}, {"seed": 1 << 64}, {"seconds": float("inf")},
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_no_verdict(change: dict[str, object]) -> None:
    with pytest.raises(BadRecord):
        replace(PASSED_ONE, **change).statement()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "proof",
    [
        Proof(()), Proof((b"x",) * 1025), Proof((bytes(MAX_PROOF_BYTES + 1),)), Proof((b"x",), ids=(1 << 32,)),
        Proof((b"x",), answered=1), Proof((b"x",), (b"y",) * 9),
    ],
)  # fmt: skip
def test_proofs_are_bounded(proof: Proof) -> None:
    with pytest.raises(BadRecord):
        replace(FAILED_ONE, proof=proof).statement()


def test_damaged_verdicts_are_refused_or_are_verdicts() -> None:
    """Of 3,000 changed in a byte or a field none is an error of another kind."""
    rng, wire = random.Random(5), statement.encode(FAILED_ONE.statement())
    whole = json.loads(wire)
    for _ in range(1500):
        broken = bytearray(wire)
        broken[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
        _refused_or_read(bytes(broken))
    for _ in range(1500):
        changed = json.loads(wire)
        part = rng.choice([changed["predicate"], changed["predicate"]["proof"], changed["predicate"]["fault"]])
        part[rng.choice(sorted(part))] = rng.choice([None, -1, 1 << 70, 0.5, "", "x", [], {}, [None], True])
        _refused_or_read(json.dumps(changed, sort_keys=True, separators=(",", ":")).encode())
    assert json.loads(wire) == whole


def _refused_or_read(wire: bytes) -> None:
    try:
        AuditVerdict.of(statement.decode(wire)).statement()
    except NdnInferError as error:
        assert isinstance(error, BadRecord)


def test_a_fault_ends_and_the_longer_one_counts() -> None:
    book = FaultBook()
    book.add(KnownFault("/n/a", 100, "/v/1"))
    book.add(KnownFault("/n/a", 50, "/v/2"))
    found = book.of("/n/a", 99)
    assert found is not None and found.verdict == "/v/1"
    assert book.of("/n/a", 100) is None and book.of("/n/b", 0) is None
    for number in range(300):
        book.add(KnownFault(f"/n/{number}", number + 1, "/v"))
    assert len(book.faults) == FaultBook.MOST and "/n/0" not in book.faults and "/n/299" in book.faults
