"""SafeBags: as ndnsec writes them, and damaged ones."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.cli import main
from ndn_infer.errors import NdnInferError, StorageError, UsageError
from ndn_infer.ndn.tlv import encode_tlv
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.safebag import is_safebag, open_safebag
from tests.unit.trust_kit import Authority, Holder, under_net

PASSWORD = b"a password"


def safebag_of(holder: Holder, key: Holder | None = None) -> str:
    private = serialization.load_pem_private_key((key or holder).key.to_pem(), password=None)
    encrypted = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSWORD),
    )  # fmt: skip
    return base64.b64encode(encode_tlv(128, holder.certificate.wire + encode_tlv(129, encrypted))).decode()


AUTHORITY = Authority()
DECODE = AUTHORITY.issue("/home/n1/decode", AUTHORITY.root)
TEXT = safebag_of(DECODE)


def test_what_is_in_it_and_what_is_not() -> None:
    certificate, key = open_safebag(TEXT, PASSWORD)
    assert certificate == DECODE.certificate and key.public_der == DECODE.key.public_der
    assert is_safebag(TEXT) and not is_safebag("-----BEGIN NDN TRUST ANCHOR-----") and not is_safebag("")
    with pytest.raises(UsageError, match="cannot be used"):
        open_safebag(TEXT, b"another")
    with pytest.raises(StorageError, match="not the one of its certificate"):
        open_safebag(safebag_of(DECODE, AUTHORITY.root), PASSWORD)


@given(st.integers(0, len(TEXT) - 1), st.sampled_from("A/=\n- é"))
def test_damaged_ones_raise_what_they_should(position: int, letter: str) -> None:
    damaged = TEXT[:position] + letter + TEXT[position + 1 :]
    try:
        open_safebag(damaged[: 40 + position // 2], PASSWORD)
    except NdnInferError:
        return
    raise AssertionError("a part of it was taken for the whole")


@pytest.mark.skipif(shutil.which("ndnsec") is None, reason="not on PATH: ndnsec")
def test_the_trust_anchor_that_ndnsec_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    net, bag = "/ndn-infer/made-by-ndnsec", tmp_path / "bag"
    subprocess.run(["ndnsec", "key-gen", "-t", "e", net], check=True, capture_output=True)
    subprocess.run(["ndnsec", "export", "-P", PASSWORD.decode(), "-o", str(bag), net], check=True, capture_output=True)
    (tmp_path / "password").write_bytes(PASSWORD + b"\n")
    words = ["import", str(bag), "--password-file", str(tmp_path / "password"), "--site", "home", "--node", "n1"]
    assert main(["keys", *words, "--set", f"paths.data_dir={tmp_path / 'data'}"]) == 0
    (keys,) = (tmp_path / "data").glob("*/keys")
    keychain = Keychain.open(keys)
    keychain.ensure(keychain.net + ndn.from_uri("/home/n1/decode"))
    assert keychain.net == ndn.from_uri(net) and under_net("") != keychain.net
