"""Records of answers: one form, whatever they say; in-toto and securesystemslib accept honest ones and no others."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from hypothesis import given, settings
from hypothesis import strategies as st
from in_toto.in_toto_verify import main as in_toto_verify_command
from in_toto.models.layout import Layout, Step
from in_toto.models.metadata import Envelope as TheirEnvelope
from in_toto.models.metadata import Metadata
from in_toto.verifylib import in_toto_verify
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from ndn_infer import ndn
from ndn_infer.errors import BadRecord, NdnInferError
from ndn_infer.evidence import answer as evidence
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.answer import AnswerClaim, AskedPrompt, ToldAnswer
from ndn_infer.evidence.answer_kv import SOURCES, KvInput
from ndn_infer.evidence.plain_json import canonical, parse
from ndn_infer.evidence.statement import Statement
from ndn_infer.records import KvSigner, KvSources
from ndn_infer.records.grammar import Grammar
from ndn_infer.records.receipt import Energy, PromptTokens, Receipt
from ndn_infer.records.sampling import Sampling, TokenBias
from ndn_infer.security.crypto import PrivateKey, Signer

NET = "/ndn-infer/local"
HEX, MODEL, ASKED = "0123456789abcdef" * 4, "ab" * 32, "cd" * 32
RESULT = f"{NET}/model/{MODEL}/result/generate/{ASKED}"
DECODE, USER = f"{NET}/home/n1/decode", f"{NET}/home/n1/user"
KV = f"{NET}/model/{MODEL}/kv/public/raw.bf16.bf16.llama-torch-3.grouped.avx512"
CLAIM = AnswerClaim(
    stream=f"{RESULT}/v=7",
    request_uri=f"{RESULT}/request",
    request=ASKED,
    model=f"{NET}/model/{MODEL}",
    function="generate",
    producer=DECODE,
    engine="bf16.bf16.llama-torch-3.grouped.avx512.raw",
    sampling=Sampling(12, 0.5, seed=3, logit_bias=(TokenBias(5, 1.0),), grammar=Grammar("json_object")),
    prompt=AskedPrompt.of(range(40), 3, f"{NET}/model/{MODEL}/tokens/public/{HEX}"),
    answer=ToldAnswer(HEX, "ef" * 32, 12, "stop", "END"),
    kv=KvSources(local=1, named=1, signers=(KvSigner(DECODE, 1),)),
    kv_blocks=(
        KvInput(0, f"{KV}/{HEX}/0-29", 0, "local"),
        KvInput(2, f"{KV}/{'12' * 32}/0-29", 1_700_000_000_000_000, "peer", DECODE),
    ),
    receipt=Receipt("bf16", PromptTokens(peer=16, computed=8), 12, 900, 8000, 0, 120, 800, Energy(5, "powercap")),
    context=f"{USER}/evidence/public/context/{HEX}",
)
KEY, USERS_KEY = PrivateKey.generate(), PrivateKey.generate()


def signer_of(key: PrivateKey, identity: str = DECODE) -> Signer:
    name = ndn.from_uri(identity)
    return Signer.of(key, name, name + ndn.generic("KEY"))


SIGNER = signer_of(KEY)


def public(key: PrivateKey) -> SSlibKey:
    return SSlibKey.from_crypto(load_der_public_key(key.public_der))


# ---------------------------------------------------------------- our own reader

words, numbers = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12), st.integers(0, 1 << 18)
digests = st.sampled_from([HEX, "ab" * 32])
claims = st.builds(
    replace, st.just(CLAIM),
    kv_blocks=st.lists(
        st.tuples(digests, st.integers(0, 1 << 60), st.sampled_from(SOURCES), st.sampled_from(["", DECODE])), max_size=5
    ).map(lambda rows: tuple(KvInput(at, f"{KV}/{one[0]}/0-29", *one[1:]) for at, one in enumerate(rows))),
    receipt=st.none() | st.builds(Receipt, words, st.builds(PromptTokens, numbers, numbers), numbers, numbers),
    context=st.sampled_from(["", CLAIM.context]), caller=st.sampled_from(["", USER]),
    sampling=st.builds(Sampling, numbers, st.floats(0, 100), seed=numbers, stop_ids=st.just((1, 2))),
    prompt=st.builds(AskedPrompt.of, st.lists(numbers, min_size=4, max_size=9), st.integers(0, 3), st.just("")),
    answer=st.builds(ToldAnswer, digests, digests, numbers, st.sampled_from(["stop", "length"]), words),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(claims)
def test_what_a_producer_says_is_what_a_reader_reads(claim: AnswerClaim) -> None:
    found, envelopes = evidence.decode(evidence.encode(claim, SIGNER))
    assert found == claim
    assert dsse.verify(envelopes.statement, KEY.public_der) and dsse.verify(envelopes.link, KEY.public_der)
    assert statement.encode(evidence.statement_of(found)) == envelopes.statement.payload


def test_equal_claims_are_equal_bytes() -> None:
    assert statement.encode(evidence.statement_of(CLAIM)) == statement.encode(evidence.statement_of(replace(CLAIM)))


RECORDS = ("sampling", "kv", "receipt")
paths = st.sampled_from(["function", "engine", "prompt", "answer", *RECORDS, statement.INPUTS, "more"])
values = st.sampled_from([None, 1, -1, "", [], {}, {"tokens": "x"}, [{"uri": "/a", "name": "kv"}], [[]], True, 1.5])


@settings(max_examples=40, deadline=None)
@given(paths, values)
def test_statements_a_little_off_are_refused(field: str, value: Any) -> None:
    honest = evidence.statement_of(CLAIM)
    made = Statement(honest.subject, honest.predicate_type, {**honest.predicate, field: value})
    if field in RECORDS and value == {}:  # all at their default: honest, and something else
        assert evidence.claim_of(statement.decode(statement.encode(made))) != CLAIM
        return
    with pytest.raises(BadRecord):
        evidence.claim_of(statement.decode(statement.encode(made)))


@pytest.mark.parametrize(("part", "field"), [("prompt", "sha256"), ("prompt", "tokens"), ("answer", "finish")])
@settings(max_examples=40, deadline=None)
@given(value=values)
def test_parts_of_statements_a_little_off_are_refused(part: str, field: str, value: Any) -> None:
    honest = evidence.statement_of(CLAIM)
    predicate: dict[str, Any] = {**honest.predicate}
    predicate[part] = {**predicate[part], field: value}
    made = statement.encode(Statement(honest.subject, honest.predicate_type, predicate))
    if (field, value) == ("tokens", 1) and type(value) is int:
        assert evidence.claim_of(statement.decode(made)).prompt.tokens == 1
        return
    with pytest.raises(BadRecord):
        evidence.claim_of(statement.decode(made))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(wire: bytes) -> None:
    with pytest.raises(BadRecord):
        evidence.decode(wire)


def test_a_link_that_says_something_else_is_refused() -> None:
    other = replace(CLAIM, request="00" * 32)
    said = dsse.sign(statement.encode(evidence.statement_of(CLAIM)), SIGNER)
    with pytest.raises(BadRecord, match="something else"):
        evidence.decode(dsse.encode_bundle((said, dsse.sign(evidence.link_of(other), SIGNER))))
    with pytest.raises(BadRecord, match="a statement and a link"):
        evidence.decode(dsse.encode_bundle((said,)))


# ---------------------------------------------------------------- judges that others wrote


def mutations(count: int) -> list[bytes]:
    """Records of which one thing is another: a bit of the envelopes, or a field of what they hold under the old
    signatures."""
    rng, wire, found = random.Random(15), evidence.encode(CLAIM, SIGNER), []
    while len(found) < count:
        if len(found) % 2:
            at = rng.randrange(len(wire))
            mutated = wire[:at] + bytes([wire[at] ^ 1 << rng.randrange(7)]) + wire[at + 1 :]
        else:
            said, link = (json.loads(line) for line in wire.splitlines())
            which = said if rng.random() < 0.5 else link
            payload = parse(dsse.decode(canonical(which)).payload)
            _edit(payload, rng)
            edited = replace(dsse.decode(canonical(which)), payload=canonical(payload))
            which["payload"] = json.loads(dsse.encode(edited))["payload"]
            mutated = canonical(said) + b"\n" + canonical(link) + b"\n"
        if mutated != wire:
            found.append(mutated)
    return found


def _edit(value: Any, rng: random.Random) -> None:
    """Change one leaf."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(value[key], dict | list) and value[key]:
            value = value[key]
            continue
        value[key] = value[key] + 1 if isinstance(value[key], int) else f"{value[key]}x"
        return


def takes(wire: bytes) -> bool:
    """Whether our reader believes it."""
    try:
        _, envelopes = evidence.decode(wire)
        return all(dsse.verify(one, KEY.public_der) for one in (envelopes.statement, envelopes.link))
    except NdnInferError:
        return False


def they_take(wire: bytes) -> bool:
    """Whether securesystemslib does, line by line."""
    try:
        lines = wire.splitlines()
        return len(lines) == 2 and all(Envelope.from_dict(json.loads(line)).verify([public(KEY)], 1) for line in lines)
    except Exception:  # whatever it raises for damaged JSON
        return False


def test_securesystemslib_takes_honest_records_and_no_mutated_ones() -> None:
    honest = evidence.encode(CLAIM, SIGNER)
    assert takes(honest) and they_take(honest)
    for mutated in mutations(200):
        ours, theirs = takes(mutated), they_take(mutated)
        assert not ours, mutated
        if theirs:  # where base64 has several forms of the same bytes they are lenient: nothing else was signed
            assert payloads(mutated) == payloads(honest)


def payloads(wire: bytes) -> list[bytes]:
    return [Envelope.from_dict(json.loads(line)).payload for line in wire.splitlines()]


# ---------------------------------------------------------------- in-toto: ask -> generate


class Chain:
    """A layout of two steps: a user asks, a producer generates from just that request and that model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.owner = CryptoSigner.generate_ecdsa()
        layout = Layout()
        for key in (KEY, USERS_KEY):
            layout.keys[public(key).keyid] = {"keyid": public(key).keyid, **public(key).to_dict()}
        ask, generate = Step(name="ask"), Step(name="generate")
        ask.pubkeys, generate.pubkeys = [public(USERS_KEY).keyid], [public(KEY).keyid]
        ask.expected_products = [["CREATE", CLAIM.request_uri], ["CREATE", CLAIM.context], ["DISALLOW", "*"]]
        generate.expected_materials = [
            ["MATCH", CLAIM.request_uri, "WITH", "PRODUCTS", "FROM", "ask"],
            ["MATCH", CLAIM.context, "WITH", "PRODUCTS", "FROM", "ask"],
            ["ALLOW", CLAIM.model], ["DISALLOW", "*"],
        ]  # fmt: skip
        generate.expected_products = [["CREATE", f"{RESULT}/v=*"], ["DISALLOW", "*"]]
        layout.steps = [ask, generate]
        self.layout = TheirEnvelope.from_signable(layout)
        self.layout.create_signature(self.owner)
        self.layout.dump(str(folder / "root.layout"))
        pem = self.owner.public_key.keyval["public"]
        (folder / "owner.pem").write_text(pem)
        products = {CLAIM.request_uri: {"sha256": CLAIM.request}, CLAIM.context: {"sha256": CLAIM.context_digest}}
        link = {"_type": "link", "name": "ask", "command": [], "materials": {}, "products": products, "byproducts": {},
                "environment": {}}  # fmt: skip
        self.put("ask", USERS_KEY, dsse.encode(dsse.sign(canonical(link), signer_of(USERS_KEY, USER))))

    def put(self, step: str, key: PrivateKey, envelope: bytes) -> None:
        (self.folder / f"{step}.{public(key).keyid[:8]}.link").write_bytes(envelope)

    def command(self) -> int:
        """Exit code of stock in-toto-verify."""
        argv = ["in-toto-verify", "--layout", str(self.folder / "root.layout"), "--link-dir", str(self.folder),
                "--verification-keys", str(self.folder / "owner.pem")]  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", argv)
            try:
                in_toto_verify_command()
            except SystemExit as ended:
                return int(ended.code or 0)
            except Exception:  # a traceback, where a link is no JSON of theirs
                return 1
        raise AssertionError("the command ends with its exit code")

    def accepts(self) -> bool:
        owner = self.owner.public_key
        key = {owner.keyid: {"keyid": owner.keyid, **owner.to_dict()}}
        try:
            in_toto_verify(Metadata.load(str(self.folder / "root.layout")), key, link_dir_path=str(self.folder))
        except Exception:  # whatever it says of damaged links
            return False
        return True


def link_line(wire: bytes) -> bytes:
    return wire.split(b"\n")[1]


def test_in_toto_verify_takes_honest_records_and_no_mutated_ones(tmp_path: Path) -> None:
    chain, honest = Chain(tmp_path), evidence.encode(CLAIM, SIGNER)
    chain.put("generate", KEY, link_line(honest))
    assert chain.command() == 0 and chain.accepts()
    for number, mutated in enumerate(mutations(200)):
        chain.put("generate", KEY, link_line(mutated))
        if chain.accepts():
            same = [Envelope.from_dict(json.loads(link_line(wire))).payload for wire in (mutated, honest)]
            assert same[0] == same[1], "the statement's line was changed, or the form of base64"
        elif number % 50 == 0:
            assert chain.command() != 0


@pytest.mark.parametrize(
    "other",
    [
        replace(CLAIM, request="00" * 32), replace(CLAIM, context=f"{USER}/evidence/public/context/{'00' * 32}"),
        replace(CLAIM, context=f"{NET}/home/n2/user/evidence/public/context/{HEX}"),
        replace(CLAIM, stream=f"{NET}/model/{MODEL}/result/generate/{HEX}/v=7"),
        replace(CLAIM, model=f"{NET}/model/{HEX}"),
    ],
    ids=["request", "context", "another's context", "another answer", "model"],
)  # fmt: skip
def test_in_toto_verify_compares_what_was_asked_with_what_was_answered(tmp_path: Path, other: AnswerClaim) -> None:
    chain = Chain(tmp_path)
    chain.put("generate", KEY, link_line(evidence.encode(other, SIGNER)))
    assert not chain.accepts() and chain.command() != 0


def test_in_toto_verify_refuses_another_key(tmp_path: Path) -> None:
    chain, thief = Chain(tmp_path), PrivateKey.generate()
    forged = link_line(evidence.encode(CLAIM, signer_of(thief)))
    chain.put("generate", thief, forged)
    chain.put("generate", KEY, forged)
    assert not chain.accepts()


def test_a_key_as_a_file_has_the_keyid_of_its_envelopes() -> None:
    pem = load_der_public_key(KEY.public_der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert public(KEY).keyval["public"].strip() == pem.decode().strip() and public(KEY).keyid == dsse.key_id(
        KEY.public_der
    )
