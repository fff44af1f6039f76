"""Explaining an answer out of a bundle: an honest one, and bundles that are damaged in every way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, NdnInferError
from ndn_infer.evidence.bundle import EvidenceBundle, read_bundle
from ndn_infer.evidence.explain import explain
from ndn_infer.evidence.judge import State
from ndn_infer.evidence.node import Explanation
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import decode_data
from ndn_infer.security.crypto import Signer
from tests.evidence_kit import MadeAnswer, joined, parts_of, value_of, with_value
from tests.unit.trust_kit import DAY, NOW, Authority

CONTENT, SIGNATURE = 0x15, 0x17


@pytest.fixture(scope="module")
def made() -> MadeAnswer:
    return MadeAnswer()


def explained(made: MadeAnswer, bundle: EvidenceBundle | None = None, **trust: float) -> Explanation:
    return asyncio.run(explain(bundle or made.bundle, made.stream, made.trust(**trust)))


def test_every_link_of_an_honest_answer_is_verified(made: MadeAnswer) -> None:
    found = explained(made, read_bundle(made.bundle.encode()))
    for node in found.answer.walk():
        assert node.state is State.VERIFIED, (node.kind, node.name, node.why)
    kinds = {node.kind for node in found.answer.walk()}
    assert kinds == {*made.names, "prompt"}
    assert found.state is State.VERIFIED and found.fault is None and not found.notes
    assert found.answer.facts["text"] == "On Thursday at nine."


def test_the_anchor_is_the_readers(made: MadeAnswer) -> None:
    """Another network's anchor proves nothing of it, whatever certificates are in the bundle."""
    other = Authority()
    bundle = EvidenceBundle(made.bundle.note, dict(made.bundle.packets))
    bundle.add(made.authority.root.certificate.wire)
    found = asyncio.run(explain(bundle, made.stream, made.trust(anchor=other.root)))
    assert not [node for node in found.answer.walk() if node.state is State.VERIFIED and node.signer]


def test_certificates_that_have_ended_since_are_judged_at_the_time_of_the_answer(made: MadeAnswer) -> None:
    found = explained(made, now=NOW + 2 * DAY)
    assert found.state is State.VERIFIED and found.judged_at == NOW
    assert any("ended since" in note for note in found.notes)


# ------------------------------------------------------------ damage


Damage = Callable[[bytes, random.Random], bytes | None]


def _flipped(value: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(value))
    return value[:at] + bytes((value[at] ^ (1 << dice.randrange(8)),)) + value[at + 1 :]


def _content(wire: bytes, dice: random.Random) -> bytes:
    parts = parts_of(wire)
    parts[CONTENT] = with_value(parts[CONTENT], _flipped(value_of(parts[CONTENT]), dice))
    return joined(parts)


def _signature(wire: bytes, dice: random.Random) -> bytes:
    parts = parts_of(wire)
    parts[SIGNATURE] = with_value(parts[SIGNATURE], _flipped(value_of(parts[SIGNATURE]), dice))
    return joined(parts)


def _name(wire: bytes, dice: random.Random) -> bytes:
    """A letter of a name component is another one."""
    parts = parts_of(wire)
    components = ndn.components(value_of(parts[0x07]))
    letters = [at for at, one in enumerate(components) if ndn.component_type(one) == ndn.GENERIC and at >= 2]
    at = dice.choice(letters)
    value = ndn.component_value(components[at])
    place = dice.randrange(len(value))
    changed = ndn.generic(value[:place] + bytes((value[place] ^ 1,)) + value[place + 1 :])
    parts[0x07] = with_value(parts[0x07], b"".join((*components[:at], changed, *components[at + 1 :])))
    return joined(parts)


def _missing(wire: bytes, dice: random.Random) -> bytes | None:
    return None


DAMAGES: dict[str, Damage] = {"content": _content, "signature": _signature, "name": _name, "missing": _missing}


def swapped(made: MadeAnswer, kind: str, name: Name, dice: random.Random) -> bytes:
    """The body of another packet under this name, with that packet's signature."""
    others = [other for names in made.names.values() for other in names if other != name]
    parts = parts_of(made.bundle.packets[dice.choice(others)])
    parts[0x07] = parts_of(made.bundle.packets[name])[0x07]
    return joined(parts)


def by_another_key(made: MadeAnswer, kind: str, name: Name, dice: random.Random) -> bytes:
    """The same content, signed by a key of this network that may not sign such names."""
    data = decode_data(made.bundle.packets[name])
    role = dice.choice([role for role in ("rag", "user", "prefill") if not _may_sign(made, role, data.name)])
    signer: Signer = made.signer(role)
    return signer.sign_data(
        data.name, data.content, freshness_ms=data.freshness_ms, content_type=data.content_type,
        final_block=data.final_block,
    )  # fmt: skip


def _may_sign(made: MadeAnswer, role: str, name: Name) -> bool:
    signer = made.signer(role)
    return made.trust().schema.check(name, signer.certificate_name).allowed


UNSEEN = {(how, kind) for how in ("missing", "name") for kind in ("deny list", "citations")}
"""Not every network has a deny list, or a function that checks citations, so nobody misses them."""


def _cases(made: MadeAnswer) -> Iterator[tuple[str, str, Name]]:
    """Each damage to each packet of the bundle."""
    sealing = made.base + ndn.METADATA
    for how in (*DAMAGES, "swapped", "other key"):
        for kind, names in made.names.items():
            for name in names:
                of_seal = name.startswith(sealing) and how in ("missing", "name")  # segments are signed by themselves
                if (how, kind) not in UNSEEN and not of_seal:
                    yield how, kind, name


def damaged(made: MadeAnswer, how: str, kind: str, name: Name, dice: random.Random) -> EvidenceBundle:
    if how == "swapped":
        wire: bytes | None = swapped(made, kind, name, dice)
    elif how == "other key":
        wire = by_another_key(made, kind, name, dice)
    else:
        wire = DAMAGES[how](made.bundle.packets[name], dice)
    bundle = EvidenceBundle(made.bundle.note)
    bundle.add(*(other for at, other in made.bundle.packets.items() if at != name))
    bundle.add(*(() if wire is None else (wire,)))
    return read_bundle(bundle.encode())


def test_the_first_broken_link_of_200_damaged_bundles_is_named(made: MadeAnswer) -> None:
    dice, count = random.Random(20261126), 0
    cases = list(_cases(made))
    while count < 200:
        for how, kind, name in cases:
            found = explained(made, damaged(made, how, kind, name, dice))
            fault = found.fault
            assert fault is not None, (how, kind, ndn.to_uri(name))
            assert fault.kind == kind, (how, kind, ndn.to_uri(name), fault.kind, fault.name, fault.why)
            assert fault.why and fault.name
            if how not in ("missing", "name"):
                assert fault.state is State.BROKEN, (how, kind, fault.why)
            count += 1
    assert count >= 200


def test_a_certificate_that_vouches_for_itself_is_the_broken_one(made: MadeAnswer) -> None:
    """Its chain never ends at the anchor; what it signed is only unproven."""
    keys = made.names["key"]
    site = next(name for name in keys if ndn.to_uri(name).startswith("/ndn-infer/local/home/KEY/"))
    others = [name for name in keys if ndn.to_uri(name).startswith("/ndn-infer/local/home/n1/")]
    assert others
    for other in others:
        parts = parts_of(made.bundle.packets[other])
        parts[0x07] = parts_of(made.bundle.packets[site])[0x07]
        bundle = EvidenceBundle(made.bundle.note)
        bundle.add(*(packet for at, packet in made.bundle.packets.items() if at != site), joined(parts))
        fault = explained(made, read_bundle(bundle.encode())).fault
        assert fault is not None and fault.kind == "key" and fault.state is State.BROKEN
        assert "rests on it" in fault.why


def test_the_link_that_is_named_is_the_very_one(made: MadeAnswer) -> None:
    """Of several alike, two passages, two blocks: the one that was damaged."""
    dice = random.Random(7)
    for kind in ("passage", "token block", "KV block"):
        for name in made.names[kind]:
            fault = explained(made, damaged(made, "content", kind, name, dice)).fault
            assert fault is not None and name.startswith(ndn.split_version(ndn.from_uri(fault.name))[0])


def test_an_answer_signed_by_two_keys_is_broken(made: MadeAnswer) -> None:
    """Another decode node may sign segments of such streams, but not of this one."""
    other = made.authority.issue("/home/n2/decode", made.site)
    name = made.base + ndn.version(int(NOW * 1e6)) + ndn.segment(1)
    data = decode_data(made.bundle.packets[name])
    bundle = EvidenceBundle(made.bundle.note, {})
    packets = {**made.bundle.packets, name: other.signer.sign_data(name, data.content, final_block=data.final_block)}
    bundle.add(*packets.values(), other.certificate.wire)
    fault = explained(made, bundle).fault
    assert fault is not None and fault.kind == "answer" and "another key" in fault.why


def test_no_flipped_byte_of_a_file_passes(made: MadeAnswer) -> None:
    """Nothing else than a named error, a fault or a note comes of it, and never a traceback."""
    raw, dice = made.bundle.encode(), random.Random(3)
    for _ in range(200):
        changed = _flipped(raw, dice)
        try:
            found = explained(made, read_bundle(changed))
        except BadPacket as error:
            assert "bundle" in str(error)
            continue
        assert found.state is not State.VERIFIED or found.notes


@pytest.mark.parametrize("cut", range(40))
def test_a_file_that_ends_early_says_so(made: MadeAnswer, cut: int) -> None:
    raw = made.bundle.encode()
    try:
        found = explained(made, read_bundle(raw[: len(raw) * cut // 40]))
    except NdnInferError:
        return
    assert found.notes and "lacks" in " ".join(found.notes)
    assert replace(found).state is not State.VERIFIED
