"""Bundles: an operator's machine, a site's machine and a node, and files that were tampered with."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadName, ConfigError, MissingKey, NdnInferError, StorageError, TrustError
from ndn_infer.ndn.packet import decode_data
from ndn_infer.security import bundle as bundles
from ndn_infer.security.crypto import PrivateKey
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from tests.unit.trust_kit import NET, NOW, Authority, kv_name, under_net

SITE = NET + ndn.from_uri("/home")
NODE = NET + ndn.from_uri("/home/n1")
DECODE = NET + ndn.from_uri("/home/n1/decode")
USER = NET + ndn.from_uri("/home/n1/user")
OTHER = NET + ndn.from_uri("/home/n2/decode")


def clock() -> float:
    return NOW


@pytest.fixture
def root(tmp_path: Path) -> Keychain:
    return Keychain.create(tmp_path / "root", NET, clock=clock)


def identities(keychain: Keychain, *, private: bool = True) -> set[bytes]:
    return {entry.identity for entry in keychain.entries() if entry.has_key == private}


def test_a_node_gets_its_own_keys_and_no_others(root: Keychain, tmp_path: Path) -> None:
    root.ensure(NODE, DECODE, USER, OTHER)
    node = Keychain.import_bundle(tmp_path / "node", root.export([NODE]), clock=clock)
    assert identities(node) == {NODE, DECODE, USER}
    assert identities(node, private=False) == {NET}
    assert node.anchor == root.anchor
    assert node.signer_for(DECODE).certificate_name == root.signer_for(DECODE).certificate_name
    with pytest.raises(MissingKey):
        node.signer_for(OTHER)
    with pytest.raises(MissingKey, match="may certify"):
        node.issue(OTHER)


def test_the_anchor_alone(root: Keychain, tmp_path: Path) -> None:
    """What a reader needs: to believe, and to sign nothing."""
    text = root.export([])
    assert "PRIVATE KEY" not in text
    assert Keychain.import_bundle(tmp_path / "reader", text, clock=clock).anchor == root.anchor


async def test_a_site_provisions_its_own_nodes(root: Keychain, tmp_path: Path) -> None:
    root.ensure(SITE)
    site = Keychain.import_bundle(tmp_path / "site", root.export([SITE]), clock=clock)
    site.ensure(NODE, DECODE)
    with pytest.raises(MissingKey):
        site.issue(under_net("/lab/n1"))
    with pytest.raises(MissingKey):
        site.issue(under_net("/operator"))
    node = Keychain.import_bundle(tmp_path / "node", site.export([NODE]), clock=clock)
    assert SITE in identities(node, private=False)
    served = {item.name: item.wire for item in node.certificates()}
    asked = []

    async def fetch(name: bytes) -> bytes:
        asked.append(name)
        return served[name]

    validator = Validator(TrustSchema.load(NET), root.anchor, fetch, now=clock)
    await validator.validate(decode_data(node.signer_for(DECODE).sign_data(kv_name(), b"x")))
    assert len(asked) == 2


def test_the_root_key_travels_only_when_asked_for(root: Keychain, tmp_path: Path) -> None:
    root.ensure(DECODE)
    copy = Keychain.import_bundle(tmp_path / "copy", root.export([NET]), clock=clock)
    assert identities(copy) == {NET}
    copy.ensure(OTHER)


def test_importing_again_and_a_renewed_anchor(root: Keychain, tmp_path: Path) -> None:
    root.ensure(DECODE)
    text = root.export([NODE])
    Keychain.import_bundle(tmp_path / "node", text, clock=clock)
    again = Keychain.import_bundle(tmp_path / "node", text, clock=clock)
    assert identities(again) == {DECODE}
    later = Keychain.open(tmp_path / "root", clock=lambda: float(root.anchor.not_after - 10))
    later.ensure(NET, DECODE)
    node = Keychain.import_bundle(tmp_path / "node", later.export([DECODE]), clock=clock)
    assert node.anchor == later.anchor != root.anchor
    # An older bundle does not set the anchor back.
    assert Keychain.import_bundle(tmp_path / "node", text, clock=clock).anchor == later.anchor


def test_another_networks_bundle(root: Keychain, tmp_path: Path) -> None:
    stranger = Keychain.create(tmp_path / "stranger", NET, clock=clock)
    stranger.ensure(DECODE)
    with pytest.raises(ConfigError, match="another trust anchor"):
        Keychain.import_bundle(tmp_path / "root", stranger.export([NODE]), clock=clock)
    assert Keychain.open(tmp_path / "root", clock=clock).anchor == root.anchor


def test_nothing_to_export(root: Keychain) -> None:
    with pytest.raises(MissingKey):
        root.export([DECODE])
    with pytest.raises(BadName):
        root.export([ndn.from_uri("/elsewhere")])


def test_files(root: Keychain, tmp_path: Path) -> None:
    root.ensure(DECODE)
    path = tmp_path / "n1.ndnkeys"
    root.export_file(path, [NODE])
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert identities(Keychain.import_file(tmp_path / "node", path, clock=clock)) == {DECODE}
    with pytest.raises(StorageError, match="cannot read"):
        Keychain.import_file(tmp_path / "node", tmp_path / "absent")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StorageError, match="not a key bundle"):
        Keychain.import_file(tmp_path / "node", path)
    path.write_bytes(b"x" * (bundles.MAX_BYTES + 10))
    with pytest.raises(StorageError, match="characters at most"):
        Keychain.import_file(tmp_path / "node", path)


# ---------------------------------------------------------------- tampered with


def blocks(text: str) -> list[str]:
    return ["-----BEGIN " + part for part in text.split("-----BEGIN ")[1:]]


def test_bundles_that_do_not_hang_together(root: Keychain, tmp_path: Path) -> None:
    root.ensure(DECODE)
    text = root.export([NODE])
    anchor, certificate, key = blocks(text)
    stranger = Keychain.create(tmp_path / "stranger", NET, clock=clock)
    stranger.ensure(DECODE)
    other_anchor, other_certificate, _ = blocks(stranger.export([NODE]))
    target = tmp_path / "node"
    for parts, error in (
        ([other_anchor, certificate, key], TrustError),
        ([anchor, other_certificate, key], TrustError),
        ([anchor, key], StorageError),
        ([anchor, certificate, PrivateKey.generate().to_pem().decode()], StorageError),
        ([certificate, key], StorageError),
        ([anchor, other_anchor], StorageError),
        ([anchor, certificate, key, "tail"], StorageError),
        (["head", anchor], StorageError),
        ([anchor, key.replace("PRIVATE KEY", "RSA PRIVATE KEY")], StorageError),
        ([anchor, certificate[:-40]], StorageError),
        ([], StorageError),
    ):
        with pytest.raises(error):
            Keychain.import_bundle(target, "".join(parts), clock=clock)
        assert not target.exists()
    Keychain.import_bundle(target, text, clock=clock)


def test_certificates_that_vouch_for_each_other(tmp_path: Path) -> None:
    """Two that lead to each other lead nowhere."""
    authority = Authority()
    first, second = PrivateKey.generate(), PrivateKey.generate()
    a = authority.issue("/home", None, key=first, key_id="a")
    b = authority.issue("/home", a, key=second, key_id="b")
    a = authority.issue("/home", b, key=first, key_id="a")
    text = bundles.encode(bundles.Bundle(authority.root.certificate, (a.certificate, b.certificate), (first, second)))
    with pytest.raises(TrustError, match="does not lead"):
        Keychain.import_bundle(tmp_path / "node", text)


def test_an_anchor_that_another_key_signed(tmp_path: Path) -> None:
    authority = Authority()
    fake = authority.issue("", authority.root)
    with pytest.raises(TrustError, match="not signed by its own key"):
        Keychain.import_bundle(tmp_path / "node", bundles.encode(bundles.Bundle(fake.certificate, (), ())))


def test_identities_outside_the_namespace(tmp_path: Path) -> None:
    authority = Authority()
    odd = authority.issue("/model/x", authority.root)
    with pytest.raises(BadName):
        Keychain.import_bundle(
            tmp_path / "node", bundles.encode(bundles.Bundle(authority.root.certificate, (odd.certificate,), ()))
        )


SAMPLE = bundles.encode(bundles.Bundle(Authority().root.certificate, (), (PrivateKey.generate(),)))


@given(st.integers(0, len(SAMPLE) - 1), st.characters(codec="ascii"))
def test_mutated_bundles(at: int, character: str) -> None:
    try:
        bundles.decode(SAMPLE[:at] + character + SAMPLE[at + 1 :])
    except NdnInferError as error:
        assert isinstance(error, StorageError)


@given(st.text(max_size=200))
def test_random_bundles(text: str) -> None:
    with pytest.raises(StorageError):
        bundles.decode(text)


def test_decode_gives_back_what_was_encoded() -> None:
    authority = Authority()
    decode = authority.issue("/home/n1/decode", authority.root)
    bundle = bundles.Bundle(authority.root.certificate, (decode.certificate,), (decode.key,))
    again = bundles.decode(bundles.encode(bundle))
    assert (again.anchor, again.certificates) == (bundle.anchor, bundle.certificates)
    assert [key.public_der for key in again.keys] == [decode.key.public_der]
    assert base64.b64encode(decode.certificate.wire)[:40].decode() in bundles.encode(bundle)
