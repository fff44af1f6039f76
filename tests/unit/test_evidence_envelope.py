"""Envelopes and statements: one form of JSON, signatures that securesystemslib accepts, and nothing else is read."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from ndn_infer import ndn
from ndn_infer.errors import BadRecord, NdnInferError
from ndn_infer.evidence import dsse, plain_json, statement
from ndn_infer.evidence.dsse import DsseEnvelope
from ndn_infer.evidence.statement import Resource, Statement
from ndn_infer.security.crypto import ED25519, KEY_KINDS, PrivateKey, Signer

IDENTITY = ndn.from_uri("/ndn-infer/local/home/n1/decode")
DIGEST = "0123456789abcdef" * 4

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
resources = st.builds(
    Resource, st.text(min_size=1, max_size=40), st.sampled_from(["", DIGEST, "ab" * 32]), st.text(max_size=20),
    st.dictionaries(st.text(max_size=8), plain, max_size=2),
)  # fmt: skip
statements = st.builds(
    Statement, st.lists(resources, min_size=1, max_size=3).map(tuple), st.sampled_from(statement.CLAIMS),
    st.dictionaries(st.text(max_size=8), plain, max_size=3),
)  # fmt: skip


def signer_of(key: PrivateKey) -> Signer:
    return Signer.of(key, IDENTITY, IDENTITY + ndn.generic("KEY"))


def judge(key: PrivateKey) -> SSlibKey:
    return SSlibKey.from_crypto(load_der_public_key(key.public_der))


CLAIM = Statement((Resource("/a/v=1", DIGEST),), statement.ANSWER, {"n": 1, statement.INPUTS: [Resource("/b").plain()]})


@settings(max_examples=40, deadline=None)
@given(plain)
def test_json_has_one_form(value: Any) -> None:
    try:
        wire = plain_json.canonical(value)
    except BadRecord:  # half a character
        return
    assert plain_json.canonical(plain_json.parse_canonical(wire)) == wire
    spaced = json.dumps(value, indent=1).encode()
    assert plain_json.canonical(plain_json.parse(spaced, 1 << 20)) == wire
    with pytest.raises(BadRecord):
        plain_json.parse(wire, len(wire) - 1)


@pytest.mark.parametrize(
    "wire",
    [
        b"", b"{", b'{"a":1,"a":2}', b"NaN", b"[Infinity]", b"1e999", b"[" * 33 + b"]" * 33, b"[" * 100_000, b"\xff",
        b'{"a":1} x', b"1" * 5000,
    ],
    ids=lambda wire: wire[:20].decode("ascii", "replace"),
)  # fmt: skip
def test_what_is_not_json_of_ours(wire: bytes) -> None:
    with pytest.raises(BadRecord):
        plain_json.parse(wire)


@settings(max_examples=40, deadline=None)
@given(statements)
def test_statements_round_trip(made: Statement) -> None:
    try:
        wire = statement.encode(made)
    except BadRecord:
        return
    assert statement.decode(wire) == made


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "link"}, {"predicateType": "urn:ndn-infer:answer:2"}, {"subject": []}, {"predicate": []},
        {"more": 1}, {"subject": [{"uri": ""}]}, {"subject": [{"uri": "/a", "digest": {"sha256": "00"}}]},
        {"subject": [{"uri": "/a", "digest": {"sha1": "00"}}]}, {"subject": [{"name": "a"}]},
        {"subject": [{"uri": "/a", "annotations": 1}]}, {"subject": [{"uri": "/a", "content": ""}]},
    ],
    ids=str,
)  # fmt: skip
def test_statements_a_little_off(change: dict[str, Any]) -> None:
    whole = json.loads(statement.encode(CLAIM)) | change
    with pytest.raises(BadRecord):
        statement.decode(plain_json.canonical(whole))


def test_inputs_are_resources() -> None:
    assert CLAIM.inputs == (Resource("/b"),)
    with pytest.raises(BadRecord):
        _ = Statement(CLAIM.subject, CLAIM.predicate_type, {statement.INPUTS: "/b"}).inputs


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_securesystemslib_takes_our_envelopes(kind: str) -> None:
    key, other = PrivateKey.generate(kind), PrivateKey.generate(kind)
    envelope = dsse.sign(statement.encode(CLAIM), signer_of(key))
    wire = dsse.encode(envelope)
    assert dsse.decode(wire) == envelope
    assert dsse.verify(envelope, key.public_der) and not dsse.verify(envelope, other.public_der)
    theirs = Envelope.from_dict(json.loads(wire))
    assert theirs.pae() == dsse.pae(envelope.payload_type, envelope.payload)
    assert dsse.key_id(key.public_der) == judge(key).keyid
    assert list(theirs.verify([judge(key)], 1)) == [judge(key).keyid]
    with pytest.raises(VerificationError):
        theirs.verify([judge(other)], 1)


def test_we_take_envelopes_of_securesystemslib() -> None:
    signer = CryptoSigner.generate_ecdsa()
    theirs = Envelope(statement.encode(CLAIM), dsse.STATEMENT_TYPE, {})
    theirs.sign(signer)
    envelope = dsse.decode(json.dumps(theirs.to_dict(), indent=2).encode())
    public = PrivateKey.from_pem(signer.private_bytes).public_der
    assert dsse.verify(envelope, public) and statement.decode(envelope.payload) == CLAIM


def accepted_by_both(wire: bytes, key: PrivateKey) -> tuple[bool, bool]:
    """(ours, theirs): who takes these bytes for a statement of this key."""
    try:
        ours = dsse.verify(dsse.decode(wire), key.public_der)
    except NdnInferError:
        ours = False
    try:
        theirs = bool(Envelope.from_dict(json.loads(wire)).verify([judge(key)], 1))
    except Exception:  # whatever it raises for damaged JSON
        theirs = False
    return ours, theirs


def test_200_mutated_envelopes_are_refused() -> None:
    """Bits of the payload, its type, the signature and the key's id; the honest one is accepted."""
    key = PrivateKey.generate()
    wire = dsse.encode(dsse.sign(statement.encode(CLAIM), signer_of(key)))
    assert accepted_by_both(wire, key) == (True, True)
    rng = random.Random(15)
    for _ in range(200):
        at, bit = rng.randrange(len(wire)), 1 << rng.randrange(7)
        mutated = wire[:at] + bytes([wire[at] ^ bit]) + wire[at + 1 :]
        try:
            same = _meaning(mutated) == _meaning(wire)
        except Exception:
            same = False
        ours, theirs = accepted_by_both(mutated, key)
        assert same or not (ours or theirs), mutated


def _meaning(wire: bytes) -> tuple[Any, ...]:
    """What a reader of base64 takes from it."""
    theirs = Envelope.from_dict(json.loads(wire))
    return theirs.payload, theirs.payload_type, {key: one.signature for key, one in theirs.signatures.items()}


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300) | st.builds(lambda value: json.dumps(value).encode(), plain))
def test_any_bytes_are_read_or_refused(wire: bytes) -> None:
    for read in (dsse.decode, dsse.decode_bundle, statement.decode):
        with pytest.raises(BadRecord):
            read(wire)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_envelopes_a_little_off(data: st.DataObject) -> None:
    envelope = dsse.sign(b"{}", signer_of(KEY))
    whole = json.loads(dsse.encode(envelope))
    change = data.draw(
        st.sampled_from(
            [
                {"payload": "e30"}, {"payload": "e3 0="}, {"payload": "e31="}, {"payload": 1}, {"payloadType": ""},
                {"payloadType": "\u00e9"}, {"signatures": []}, {"signatures": whole["signatures"] * 2},
                {"signatures": [{"keyid": "", "sig": "AA=="}]}, {"signatures": [{"keyid": DIGEST, "sig": ""}]},
                {"signatures": [{"sig": "AA=="}]}, {"more": 1},
            ]
        )
    )  # fmt: skip
    with pytest.raises(BadRecord):
        dsse.decode(json.dumps(whole | change).encode())


KEY = PrivateKey.generate(ED25519)


def test_bundles() -> None:
    one = DsseEnvelope(b"{}", "a/b", dsse.sign(b"{}", signer_of(KEY), "a/b").signatures)
    wire = dsse.encode_bundle((one, one))
    assert dsse.decode_bundle(wire) == (one, one)
    for bad in (b"", wire[:-1], wire + b"\n", wire * 3, wire + b"{}\n", b"\n" + wire):
        with pytest.raises(BadRecord):
            dsse.decode_bundle(bad)
