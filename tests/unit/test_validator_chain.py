"""The validator against a network of certificates in memory: what must pass, and everything that must not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ndn_infer import ndn
from ndn_infer.errors import (
    BadPacket,
    BadSignature,
    CertificateUnavailable,
    KeyNotAllowed,
    TrustError,
)
from ndn_infer.ndn.packet import SignatureInfo, decode_data, encode_data
from ndn_infer.security import certificate as certs
from ndn_infer.security.crypto import KEY_KINDS, PrivateKey
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validated, Validator
from tests.unit.trust_kit import DIGEST, NET, NOW, Authority, Holder, kv_name, site_chain, under_net


@pytest.fixture(params=KEY_KINDS)
def authority(request: pytest.FixtureRequest) -> Authority:
    return Authority(kind=request.param)


# ---------------------------------------------------------------- what passes


async def test_a_chain_of_two(authority: Authority) -> None:
    site, decode = site_chain(authority)
    validator = authority.validator()
    proof = await validator.validate(decode.data(kv_name()))
    assert proof == Validated(decode.certificate.key_name, decode.certificate.name, "kv_block")
    assert proof.identity == under_net("/home/n1/decode")
    assert authority.asked == [decode.certificate.name, site.certificate.name]


async def test_signed_by_the_root_directly(authority: Authority) -> None:
    operator = authority.issue("/operator", authority.root)
    name = under_net("/catalog/model/smollm2/32=metadata/v=1/seg=0")
    assert (await authority.validator().validate(operator.data(name))).rule == "catalog_record"


async def test_certificates_themselves(authority: Authority) -> None:
    site, decode = site_chain(authority)
    validator = authority.validator()
    assert (await validator.validate(site.certificate.data)).rule == "site"
    assert (await validator.validate(decode.certificate.data)).key_name == site.certificate.key_name
    with pytest.raises(KeyNotAllowed):  # the anchor's own is believed because it is installed, not because it says so
        await validator.validate(authority.root.certificate.data)


async def test_kinds_of_keys_mix() -> None:
    authority = Authority(kind="ecdsa")
    site = authority.issue("/home", authority.root, key=PrivateKey.generate("ed25519"))
    decode = authority.issue("/home/n1/decode", site, key=PrivateKey.generate("ecdsa"))
    await authority.validator().validate(decode.data(kv_name()))


async def test_each_certificate_is_fetched_once(authority: Authority) -> None:
    _, decode = site_chain(authority)
    validator = authority.validator()
    data = decode.data(kv_name())
    assert validator.try_validate(data) is None
    proof = await validator.validate(data)
    assert validator.try_validate(data) == proof
    assert await validator.validate(decode.data(kv_name(2))) == proof
    assert len(authority.asked) == 2


async def test_a_key_locator_may_stop_at_the_key_name(authority: Authority) -> None:
    _, decode = site_chain(authority)
    info = SignatureInfo(decode.key.signature_type, decode.certificate.key_name)
    data = decode_data(encode_data(kv_name(), b"x", info=info, signer=decode.key.sign))
    proof = await authority.validator().validate(data)
    assert proof.certificate_name == decode.certificate.name
    assert authority.asked[0] == decode.certificate.key_name


async def test_offered_certificates_spare_the_fetch(authority: Authority) -> None:
    site, decode = site_chain(authority)
    validator = authority.validator()
    validator.add_certificates(site.certificate, decode.certificate)
    await validator.validate(decode.data(kv_name()))
    assert authority.asked == []


async def test_offered_certificates_are_verified_all_the_same(authority: Authority) -> None:
    stranger = Authority()
    impostor = stranger.issue("/home/n1/decode", stranger.root)
    validator = authority.validator()
    validator.add_certificates(impostor.certificate, stranger.root.certificate)
    with pytest.raises(KeyNotAllowed, match="is not the trust anchor"):
        await validator.validate(impostor.data(kv_name()))


async def test_two_validators_share_nothing(authority: Authority) -> None:
    _, decode = site_chain(authority)
    await authority.validator().validate(decode.data(kv_name()))
    assert authority.validator().try_validate(decode.data(kv_name())) is None


# ---------------------------------------------------------------- signatures


async def test_every_flipped_bit_of_the_signature(authority: Authority) -> None:
    _, decode = site_chain(authority)
    validator = authority.validator()
    data = decode.data(kv_name())
    await validator.validate(data)
    for at in range(len(data.signature)):
        for bit in range(8):
            flipped = bytearray(data.signature)
            flipped[at] ^= 1 << bit
            with pytest.raises(BadSignature):
                await validator.validate(replace(data, signature=bytes(flipped)))


async def test_every_truncated_or_extended_signature(authority: Authority) -> None:
    _, decode = site_chain(authority)
    validator = authority.validator()
    data = decode.data(kv_name())
    await validator.validate(data)
    for size in range(len(data.signature)):
        with pytest.raises(BadSignature):
            validator.try_validate(replace(data, signature=data.signature[:size]))
    for tail in (b"\0", b"\xff", data.signature):
        with pytest.raises(BadSignature):
            validator.try_validate(replace(data, signature=data.signature + tail))


async def test_every_flipped_byte_of_the_packet(authority: Authority) -> None:
    """Whatever is changed on the path, the packet is malformed or not trusted."""
    _, decode = site_chain(authority)
    validator = authority.validator()
    data = decode.data(kv_name())
    await validator.validate(data)
    for at in range(len(data.wire)):
        raw = bytearray(data.wire)
        raw[at] ^= 0x01
        with pytest.raises((BadPacket, TrustError)):
            await validator.validate(decode_data(bytes(raw)))


async def test_every_flipped_byte_of_a_certificate() -> None:
    authority = Authority()
    site, decode = site_chain(authority)
    data = decode.data(kv_name())
    for at in range(len(site.certificate.wire)):
        raw = bytearray(site.certificate.wire)
        raw[at] ^= 0x01
        authority.served[site.certificate.name] = bytes(raw)
        with pytest.raises(TrustError):
            await authority.validator().validate(data)


@pytest.mark.parametrize("kind", [0, 2, 4, 6, 200])
async def test_signatures_that_prove_no_authorship(authority: Authority, kind: int) -> None:
    _, decode = site_chain(authority)
    info = SignatureInfo(kind, decode.certificate.name)
    data = decode_data(encode_data(kv_name(), b"x", info=info))
    with pytest.raises(BadSignature, match="does not prove who made it"):
        await authority.validator().validate(data)
    assert authority.asked == []


async def test_a_digest_is_no_signature(authority: Authority) -> None:
    with pytest.raises(BadSignature):
        await authority.validator().validate(decode_data(encode_data(kv_name(), b"x")))


async def test_the_type_must_be_that_of_the_key() -> None:
    authority = Authority()
    _, decode = site_chain(authority)
    for wrong in (1, 5):
        info = SignatureInfo(wrong, decode.certificate.name)
        data = decode_data(encode_data(kv_name(), b"x", info=info, signer=decode.key.sign))
        with pytest.raises(BadSignature, match="the signature is not one of the key"):
            await authority.validator().validate(data)


async def test_a_signature_without_key_locator(authority: Authority) -> None:
    info = SignatureInfo(authority.root.key.signature_type)
    with pytest.raises(BadSignature, match="does not name the key"):
        await authority.validator().validate(decode_data(encode_data(kv_name(), b"x", info=info)))


async def test_another_key_under_the_same_name(authority: Authority) -> None:
    _, decode = site_chain(authority)
    thief = Holder(decode.certificate, PrivateKey.generate(authority.kind))
    with pytest.raises(BadSignature):
        await authority.validator().validate(thief.data(kv_name()))


# ---------------------------------------------------------------- keys that may not


@pytest.mark.parametrize(
    ("signer", "name"),
    [
        ("/home/n1/rag", f"/model/{DIGEST}/kv/public/bf16/{DIGEST}/0-29/32=metadata/v=1/seg=0"),
        ("/home/n1/decode", "/catalog/model/x/32=metadata/v=1/seg=0"),
        ("/home/n1/decode", "/home/n1/prefill/encryption/32=metadata/v=1/seg=0"),
        ("/home/n1/decode", "/home/n2/decode/encryption/32=metadata/v=1/seg=0"),
        ("/home/n1/decode", "/lab/n1/decode/encryption/32=metadata/v=1/seg=0"),
        ("/home/n1", "/home/n1/decode/encryption/32=metadata/v=1/seg=0"),
        ("/operator", "/home/n1/decode/encryption/32=metadata/v=1/seg=0"),
        ("/home", f"/model/{DIGEST}/kv/public/bf16/{DIGEST}/0-29/32=metadata/v=1/seg=0"),
        ("", f"/model/{DIGEST}/kv/public/bf16/{DIGEST}/0-29/32=metadata/v=1/seg=0"),
        ("/home/n1/decode", f"/model/{DIGEST}/kv/public/bf16/{DIGEST}/0-29/v=1/seg=0"),
    ],
)
async def test_keys_that_may_not_sign_that_name(signer: str, name: str) -> None:
    """Refused from the names alone: nothing is fetched, whatever such Data costs its sender."""
    authority = Authority()
    holder = authority.issue(signer, authority.root) if signer else authority.root
    validator = authority.validator()
    with pytest.raises(KeyNotAllowed):
        await validator.validate(holder.data(under_net(name)))
    with pytest.raises(KeyNotAllowed):
        validator.try_validate(holder.data(under_net(name)))
    assert authority.asked == []


async def test_a_certificate_of_the_wrong_issuer(authority: Authority) -> None:
    lab = authority.issue("/lab", authority.root)
    decode = authority.issue("/home/n1/decode", lab)
    with pytest.raises(KeyNotAllowed, match="site lab"):
        await authority.validator().validate(decode.data(kv_name()))


@pytest.mark.parametrize("issuer", ["/operator", "/home/n1", "/home/n1/prefill"])
async def test_issuers_that_may_issue_nothing(authority: Authority, issuer: str) -> None:
    decode = authority.issue("/home/n1/decode", authority.issue(issuer, authority.root))
    with pytest.raises(KeyNotAllowed):
        await authority.validator().validate(decode.data(kv_name()))


async def test_a_self_signed_role_certificate(authority: Authority) -> None:
    impostor = authority.issue("/home/n1/decode", None)
    with pytest.raises(KeyNotAllowed):
        await authority.validator().validate(impostor.data(kv_name()))


async def test_an_impostor_of_the_anchor(authority: Authority) -> None:
    """A whole second network of the same name; its anchor is not even fetched."""
    stranger = Authority(kind=authority.kind)
    site = stranger.issue("/home", stranger.root)
    for holder in (stranger.issue("/home/n1/decode", site), stranger.issue("/home/n1/decode", stranger.root)):
        authority.served.update(stranger.served)
        with pytest.raises(KeyNotAllowed, match="is not the trust anchor"):
            await authority.validator().validate(holder.data(kv_name()))
    assert stranger.root.certificate.name not in authority.asked


async def test_an_impostor_with_the_anchors_own_key_name(authority: Authority) -> None:
    """The same key name, another key: found out by the signature."""
    key_id = ndn.component_value(ndn.components(authority.root.certificate.key_name)[-1]).decode()
    fake_root = authority.issue("", None, key_id=key_id)
    decode = authority.issue("/home/n1/decode", fake_root)
    with pytest.raises(BadSignature, match="certificate .*decode"):
        await authority.validator().validate(decode.data(kv_name()))


@pytest.mark.parametrize("content", [b"\x30\x03\x02\x01\x05", b"no key"])
async def test_a_certificate_without_a_usable_key(authority: Authority, content: bytes) -> None:
    decode = authority.issue("/home/n1/decode", authority.root, public_der=content)
    with pytest.raises(KeyNotAllowed, match="public key"):
        await authority.validator().validate(decode.data(kv_name()))


async def test_a_weak_key_is_refused_although_certified(authority: Authority) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    der = weak.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    decode = authority.issue("/home/n1/decode", authority.root, public_der=der)
    with pytest.raises(KeyNotAllowed, match="2048"):
        await authority.validator().validate(decode.data(kv_name()))


async def test_key_locators_that_name_no_key(authority: Authority) -> None:
    for locator in ("/ndn-infer/local/home/n1/decode", "/", "/KEY"):
        info = SignatureInfo(authority.root.key.signature_type, ndn.from_uri(locator))
        data = decode_data(encode_data(kv_name(), b"x", info=info, signer=authority.root.key.sign))
        with pytest.raises(KeyNotAllowed):
            await authority.validator().validate(data)


# ---------------------------------------------------------------- loops and depth

LOOSE = """
#net: "x"
#KEY: "KEY"/_/_/_
#anchor: #net/#KEY
#one: #net/"one"/_/#KEY <= #anchor | #two
#two: #net/_/"two"/#KEY <= #anchor
#three: #net/"one"/"two"/#KEY <= #one | #anchor
#data: #net/"data"/_ <= #one | #two | #three
"""


async def test_certificates_in_a_circle() -> None:
    """Two certificates of one identity that vouch for each other, under a schema that would let them."""
    authority = Authority()
    first, second = PrivateKey.generate(), PrivateKey.generate()
    holders = {
        "a": authority.issue("/one/two", None, key=first, key_id="a"),
        "b": authority.issue("/one/two", None, key=second, key_id="b"),
    }
    a = authority.issue("/one/two", holders["b"], key=first, key_id="a")
    authority.issue("/one/two", a, key=second, key_id="b", locator=a.certificate.name)
    # What is served under b's first name is the one that a signed.
    authority.served[holders["b"].certificate.name] = _resigned(holders["b"], a)
    validator = Validator(
        TrustSchema.load(NET, LOOSE),
        authority.root.certificate,
        authority.fetch,
        now=lambda: NOW,
        sleep=authority.sleep,
    )
    with pytest.raises(KeyNotAllowed, match="in a circle"):
        await validator.validate(a.data(under_net("/data/x")))
    assert len(authority.asked) == 2


def _resigned(subject: Holder, issuer: Holder) -> bytes:
    old = subject.certificate
    return certs.build(
        old.name,
        old.public_der,
        info=SignatureInfo(issuer.key.signature_type, issuer.certificate.name),
        sign=issuer.key.sign,
        validity=(old.not_before, old.not_after),
    ).wire


async def test_the_depth_is_limited() -> None:
    authority = Authority()
    _, decode = site_chain(authority)
    with pytest.raises(KeyNotAllowed, match="more than 1 certificates"):
        await authority.validator(max_depth=1).validate(decode.data(kv_name()))
    await authority.validator(max_depth=2).validate(decode.data(kv_name()))


async def test_a_long_chain_of_a_loose_schema_stops_at_five() -> None:
    authority = Authority()
    holder = authority.root
    rules = ['#net: "x"', '#KEY: "KEY"/_/_/_', "#k0: #net/#KEY"]
    for number in range(1, 8):
        rules.append(f'#k{number}: #net/"s{number}"/#KEY <= #k{number - 1}')
    rules.append('#data: #net/"data"/_ <= #k5 | #k6 | #k7')
    chain = {}
    for number in range(1, 8):
        holder = chain[number] = authority.issue(f"/s{number}", holder)
    validator = Validator(
        TrustSchema.load(NET, "\n".join(rules)), authority.root.certificate, authority.fetch, now=lambda: NOW
    )
    with pytest.raises(KeyNotAllowed, match="more than 5"):
        await validator.validate(chain[6].data(under_net("/data/x")))
    assert len(authority.asked) == 5
    await validator.validate(chain[5].data(under_net("/data/x")))


# ---------------------------------------------------------------- the words


async def test_messages_are_one_line_and_say_what_was_judged() -> None:
    authority = Authority()
    lab = authority.issue("/lab", authority.root)
    decode = authority.issue("/home/n1/decode", lab)
    with pytest.raises(KeyNotAllowed) as caught:
        await authority.validator().validate(decode.data(kv_name()))
    assert str(caught.value).startswith("certificate /ndn-infer/local/home/n1/decode/KEY/")
    assert "anchor or site of the same name may sign it" in str(caught.value)
    del authority.served[decode.certificate.name]
    with pytest.raises(CertificateUnavailable) as absent:
        await authority.validator().validate(decode.data(kv_name()))
    assert str(absent.value).startswith("Data /ndn-infer/local/model/")
    assert "cannot get certificate /ndn-infer/local/home/n1/decode/KEY/" in str(absent.value)
    assert "nobody has it" in str(absent.value)
    for error in (caught.value, absent.value):
        assert "\n" not in str(error) and error.hint


def test_the_event_loop_is_needed_only_to_wait() -> None:
    """A validator is made, and judges what it can, outside a running loop."""
    authority = Authority()
    _, decode = site_chain(authority)
    validator = authority.validator()
    assert validator.try_validate(decode.data(kv_name())) is None
    asyncio.run(validator.validate(decode.data(kv_name())))
    assert validator.try_validate(decode.data(kv_name())) is not None


async def test_the_certificate_that_came_is_judged_too() -> None:
    """A key locator that stops at the key's name leaves the issuer open; the schema judges the one that came."""
    authority = Authority()
    text = '#net: "x"\n#anchor: #net/"KEY"/_/_/_\n#k: #net/"k"/"KEY"/_/"right"/_ <= #anchor\n'
    text += '#loose: #net/"k"/"KEY"/_/"NA"/_ <= #anchor\n#data: #net/"data"/_ <= #k | #loose\n'
    text += '#any: #net/"k"/"KEY"/_/_/_ <= #anchor\n'
    holder = authority.issue("/k", authority.root)  # its issuer component is "issuer", which signs nothing here
    validator = Validator(
        TrustSchema.load(NET, text), authority.root.certificate, authority.fetch, now=lambda: NOW, sleep=authority.sleep
    )
    info = SignatureInfo(holder.key.signature_type, holder.certificate.key_name)
    data = decode_data(encode_data(under_net("/data/x"), b"x", info=info, signer=holder.key.sign))
    with pytest.raises(KeyNotAllowed):
        await validator.validate(data)
    assert authority.asked == [holder.certificate.key_name]
