"""The keychain on disk: making, renewing, finding keys; permissions, races and damage."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.errors import BadName, BadPacket, ConfigError, MissingKey, StorageError
from ndn_infer.ndn.packet import decode_data
from ndn_infer.security import certificate as certs
from ndn_infer.security.certificate import CLOCK_SKEW_S
from ndn_infer.security.crypto import KEY_KINDS, PrivateKey, PublicKey
from ndn_infer.security.identity import IdentityKind
from ndn_infer.security.keychain import DAY_S, VALIDITY_S, Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from tests.unit.trust_kit import NET, NOW, kv_name, under_net

DECODE = NET + ndn.from_uri("/home/n1/decode")
NODE = NET + ndn.from_uri("/home/n1")
SITE = NET + ndn.from_uri("/home")
OPERATOR = under_net("/operator")


class Clock:
    """Epoch seconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keychain(tmp_path: Path, clock: Clock) -> Keychain:
    return Keychain.create(tmp_path / "keys", NET, clock=clock)


async def assert_accepted(keychain: Keychain, identity: bytes, name: bytes, clock: Clock) -> None:
    """What this keychain signs is accepted by a validator that has the anchor and can fetch its certificates."""
    served = {item.name: item.wire for item in keychain.certificates()}

    async def fetch(wanted: bytes) -> bytes:
        return served[wanted]

    validator = Validator(TrustSchema.load(NET), keychain.anchor, fetch, now=clock)
    proof = await validator.validate(decode_data(keychain.signer_for(identity).sign_data(name, b"x")))
    assert proof.identity == identity


# ---------------------------------------------------------------- making and finding


@pytest.mark.parametrize("kind", KEY_KINDS)
async def test_from_nothing_to_a_trusted_signature(tmp_path: Path, clock: Clock, kind: str) -> None:
    keychain = Keychain.create(tmp_path / "new" / "keys", NET, kind=kind, clock=clock)
    assert keychain.net == NET and keychain.anchor.self_signed
    keychain.ensure(DECODE, OPERATOR, kind=kind)
    await assert_accepted(keychain, DECODE, kv_name(), clock)
    await assert_accepted(keychain, OPERATOR, under_net("/catalog/model/x/32=metadata/v=1/seg=0"), clock)
    again = Keychain.open(tmp_path / "new" / "keys", clock=clock)
    assert again.anchor == keychain.anchor
    assert set(again.certificates()) == set(keychain.certificates())
    await assert_accepted(again, DECODE, kv_name(), clock)


def test_the_validity_of_what_is_issued(keychain: Keychain) -> None:
    for identity, kind in ((SITE, IdentityKind.SITE), (NODE, IdentityKind.NODE), (DECODE, IdentityKind.ROLE)):
        certificate = keychain.issue(identity)
        assert certificate.not_before == int(NOW) - CLOCK_SKEW_S
        assert certificate.not_after == int(NOW) + VALIDITY_S[kind]
    assert keychain.issue(DECODE, validity_s=60).not_after == int(NOW) + 60
    assert keychain.issue(DECODE, validity_s=1e9).not_after == keychain.anchor.not_after


def test_the_newest_key_signs(keychain: Keychain, clock: Clock) -> None:
    first = keychain.issue(DECODE)
    assert keychain.signer_for(DECODE).certificate_name == first.name
    clock.now += 1
    second = keychain.issue(DECODE)
    assert second.key_name != first.key_name
    assert keychain.signer_for(DECODE).certificate_name == second.name
    assert keychain.signer_for(DECODE) is keychain.signer_for(DECODE)


def test_missing_keys(keychain: Keychain, tmp_path: Path) -> None:
    with pytest.raises(MissingKey, match="role decode of node n1, site home") as caught:
        keychain.signer_for(DECODE)
    assert caught.value.hint
    with pytest.raises(BadName):
        keychain.signer_for(ndn.from_uri("/elsewhere/n1"))
    with pytest.raises(MissingKey, match="no keys in"):
        Keychain.open(tmp_path / "nowhere")


def test_an_expired_certificate_is_said_to_be_that(keychain: Keychain, clock: Clock) -> None:
    keychain.issue(DECODE, validity_s=100)
    keychain.signer_for(DECODE)
    clock.now += 101
    with pytest.raises(MissingKey, match="not valid now; it ends 2027-"):
        keychain.signer_for(DECODE)


def test_what_another_process_added_is_found(keychain: Keychain, tmp_path: Path, clock: Clock) -> None:
    other = Keychain.open(tmp_path / "keys", clock=clock)
    made = other.issue(DECODE)
    assert keychain.signer_for(DECODE).certificate_name == made.name


def test_entries(keychain: Keychain, clock: Clock) -> None:
    keychain.ensure(DECODE, OPERATOR)
    public = PrivateKey.generate().public_der
    key_name = certs.key_name(NODE, ndn.generic("elsewhere"))
    keychain.certify(NODE, key_name, public_der=public)
    entries = keychain.entries()
    assert [(ndn.to_uri(entry.identity), entry.kind, entry.has_key) for entry in entries] == [
        ("/ndn-infer/local", "trust anchor", True),
        ("/ndn-infer/local/home/n1", "node", False),
        ("/ndn-infer/local/home/n1/decode", "role", True),
        ("/ndn-infer/local/operator", "operator", True),
    ]
    assert entries[2].seconds_left(clock()) == VALIDITY_S[IdentityKind.ROLE]


def test_creating_twice(keychain: Keychain, tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(ConfigError, match="already"):
        Keychain.create(tmp_path / "keys", NET)
    assert Keychain.open_or_create(tmp_path / "keys", NET, clock=clock).anchor == keychain.anchor
    with pytest.raises(ConfigError, match="not of /other"):
        Keychain.open_or_create(tmp_path / "keys", ndn.from_uri("/other"))
    with pytest.raises(ConfigError, match="one component"):
        Keychain.create(tmp_path / "none", b"")


# ---------------------------------------------------------------- issuing


def test_what_is_never_issued(keychain: Keychain) -> None:
    with pytest.raises(ConfigError):
        keychain.issue(NET)
    for uri in ("/model/x", "/operator/n1", "/home/n1/decode/more"):
        with pytest.raises(BadName):
            keychain.issue(under_net(uri))
    with pytest.raises(ConfigError):
        keychain.certify(NODE, certs.key_name(DECODE, ndn.generic("k")), public_der=PrivateKey.generate().public_der)
    with pytest.raises(BadPacket):
        keychain.certify(NODE, certs.key_name(NODE, ndn.generic("k")), public_der=b"no key")
    with pytest.raises(ConfigError):
        keychain.certify(NET, certs.key_name(NET, ndn.generic("k")), public_der=PrivateKey.generate().public_der)
    assert len(keychain.entries()) == 1


def test_certifying_a_key_made_elsewhere(keychain: Keychain) -> None:
    public = PrivateKey.generate().public_der
    made = keychain.certify(NODE, certs.key_name(NODE, ndn.generic("k")), public_der=public, validity_s=60)
    assert made.public_der == public
    root = PublicKey.from_spki(keychain.anchor.public_der)
    assert root.verify(made.data.signature_info.type, made.data.signed_portion, made.data.signature)


# ---------------------------------------------------------------- ensure


def test_ensure_is_idempotent(keychain: Keychain) -> None:
    keychain.ensure(DECODE, NODE)
    before = set(keychain.certificates())
    keychain.ensure(DECODE, NODE)
    keychain.ensure(DECODE)
    assert set(keychain.certificates()) == before


def test_ensure_renews_in_the_last_third(keychain: Keychain, clock: Clock) -> None:
    keychain.ensure(DECODE, validity_s=1000 * DAY_S)
    old = keychain.signer_for(DECODE)
    clock.now += 665 * DAY_S
    keychain.ensure(DECODE)
    assert keychain.signer_for(DECODE) == old
    clock.now += 2 * DAY_S
    keychain.ensure(DECODE, validity_s=1000 * DAY_S)
    new = keychain.signer_for(DECODE)
    assert new.certificate_name != old.certificate_name
    assert ndn.prefix(new.certificate_name, -2) == ndn.prefix(old.certificate_name, -2)  # the same key
    assert old.certificate_name in {item.name for item in keychain.certificates()}  # still served


def test_ensure_renews_what_has_expired(keychain: Keychain, clock: Clock) -> None:
    keychain.ensure(DECODE, validity_s=100)
    old = keychain.signer_for(DECODE)
    clock.now += 1000
    keychain.ensure(DECODE)
    assert ndn.prefix(keychain.signer_for(DECODE).certificate_name, -2) == ndn.prefix(old.certificate_name, -2)


def test_ensure_does_not_renew_for_no_gain(keychain: Keychain, clock: Clock) -> None:
    """Near the anchor's own end a new certificate would last no longer: none is made again and again."""
    clock.now = keychain.anchor.not_after - 100
    for _ in range(3):
        keychain.ensure(DECODE)
    assert len(keychain.certificates()) == 2
    clock.now += 95
    keychain.ensure(DECODE)
    assert len(keychain.certificates()) == 2


def test_ensure_renews_the_anchor_and_chains_hold(keychain: Keychain, clock: Clock, tmp_path: Path) -> None:
    keychain.ensure(NET, DECODE)
    old = keychain.anchor
    clock.now = old.not_after - 10
    keychain.ensure(NET)
    assert keychain.anchor.key_name == old.key_name and keychain.anchor.not_after > old.not_after
    assert Keychain.open(tmp_path / "keys", clock=clock).anchor == keychain.anchor


def test_ensure_without_the_issuing_key(keychain: Keychain, clock: Clock, tmp_path: Path) -> None:
    keychain.ensure(DECODE, validity_s=1000)
    root_key = next(path for path in (tmp_path / "keys" / "keys").iterdir() if b"" == _other_key(keychain, path))
    root_key.unlink()
    node = Keychain.open(tmp_path / "keys", clock=clock)
    node.ensure(DECODE)
    clock.now += 950
    node.ensure(DECODE)  # cannot renew, still valid
    assert node.signer_for(DECODE)
    clock.now += 100
    with pytest.raises(MissingKey, match="may certify"):
        node.ensure(DECODE)
    with pytest.raises(MissingKey, match="may certify"):
        node.ensure(OPERATOR)
    assert len(list((tmp_path / "keys" / "keys").iterdir())) == 1  # nothing half-made


def _other_key(keychain: Keychain, path: Path) -> bytes:
    """Empty for the file of the root key."""
    public = PrivateKey.from_pem(path.read_bytes()).public_der
    return b"" if public == keychain.anchor.public_der else public


def test_ensure_does_what_it_can(keychain: Keychain, clock: Clock, tmp_path: Path) -> None:
    """A site's machine is asked for the operator's key too: it says so after it has made its own."""
    keychain.ensure(SITE)
    site = Keychain.import_bundle(tmp_path / "site", keychain.export([SITE]), clock=clock)
    with pytest.raises(MissingKey, match="operator"):
        site.ensure(OPERATOR, DECODE, NODE)
    assert site.signer_for(DECODE) and site.signer_for(NODE)


def test_certificates_come_newest_first(keychain: Keychain, clock: Clock) -> None:
    """A producer that answers a key's name with the first match gives the one that ends last."""
    keychain.ensure(DECODE, validity_s=100)
    clock.now += 1000
    keychain.ensure(DECODE, validity_s=100)
    mine = [item for item in keychain.certificates() if item.identity == DECODE]
    assert [item.not_after for item in mine] == [int(NOW) + 1100, int(NOW) + 100]


# ---------------------------------------------------------------- races


def _ensure_in_process(directory: str, start: object, results: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    keychain = Keychain.open_or_create(Path(directory), NET)
    keychain.ensure(DECODE, OPERATOR)
    names = (keychain.anchor.name, keychain.signer_for(DECODE).certificate_name)
    results.put(names)  # type: ignore[attr-defined]


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(4), context.Queue()
    args = (str(tmp_path / "keys"), start, results)
    processes = [context.Process(target=_ensure_in_process, args=args) for _ in range(4)]
    for process in processes:
        process.start()
    names = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(timeout=60)
    assert len(names) == 1
    assert len(Keychain.open(tmp_path / "keys").entries()) == 3


# ---------------------------------------------------------------- files


def test_modes_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """In a process of its own, since the umask belongs to the process."""
    script = (
        "import os, sys; os.umask(0)\n"
        "from pathlib import Path\n"
        "from ndn_infer import ndn\n"
        "from ndn_infer.security.keychain import Keychain\n"
        "net = ndn.from_uri('/x')\n"
        "Keychain.create(Path(sys.argv[1]), net).ensure(ndn.from_uri('/x/home/n1/decode'))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "keys")], check=True)
    seen = 0
    for root, directories, files in os.walk(tmp_path / "keys"):
        assert stat.S_IMODE(os.stat(root).st_mode) == 0o700
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(root, name)).st_mode) == 0o600
            seen += 1
        assert all(not name.startswith(".") for name in directories + files)  # no leftovers
    assert seen == 6  # lock, anchor, two keys, two certificates


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_a_key_that_others_may_read_is_refused(keychain: Keychain, tmp_path: Path, clock: Clock, mode: int) -> None:
    keychain.ensure(DECODE)
    for path in (tmp_path / "keys" / "keys").iterdir():
        path.chmod(mode)
    fresh = Keychain.open(tmp_path / "keys", clock=clock)
    with pytest.raises(StorageError, match=r"read or changed by others \(mode 0") as caught:
        fresh.signer_for(DECODE)
    assert caught.value.hint.startswith("chmod 600 ")


def test_a_directory_that_others_may_change_is_refused(keychain: Keychain, tmp_path: Path) -> None:
    (tmp_path / "keys").chmod(0o777)
    with pytest.raises(StorageError, match="changed by others"):
        Keychain.open(tmp_path / "keys")
    (tmp_path / "keys").chmod(0o755)
    Keychain.open(tmp_path / "keys")


def test_damaged_files_are_named(keychain: Keychain, tmp_path: Path, clock: Clock) -> None:
    keychain.ensure(DECODE)
    directory = tmp_path / "keys"
    for path in (directory / "keys").iterdir():
        path.write_bytes(b"garbage")
    with pytest.raises(StorageError, match="PKCS#8"):
        Keychain.open(directory, clock=clock).signer_for(DECODE)
    certificate = next((directory / "certs").iterdir())
    certificate.write_bytes(b"\xff")
    with pytest.raises(StorageError, match=certificate.name):
        Keychain.open(directory)
    (directory / "anchor.cert").write_text("AAAA")
    with pytest.raises(StorageError, match="anchor.cert"):
        Keychain.open(directory)


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot make"):
        Keychain.create(tmp_path / "file" / "keys", NET)


def test_a_full_disk_leaves_nothing_behind(keychain: Keychain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        keychain.issue(DECODE)
    monkeypatch.undo()
    assert not list((tmp_path / "keys").rglob(".*"))
    assert len(Keychain.open(tmp_path / "keys").entries()) == 1
