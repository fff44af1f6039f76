"""Domains in files and on the command line: an owner's machine, a member's, and files that were tampered with."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.cli import main
from ndn_infer.errors import (
    BadRecord,
    BadSignature,
    DigestMismatch,
    KeyNotAllowed,
    MissingKey,
    NdnInferError,
    StorageError,
    UsageError,
)
from ndn_infer.namespace import DomainKey as DomainKeyName
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data, decode_data
from ndn_infer.security import domain_store as store
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.domain_keys import DecryptionKey
from ndn_infer.security.domain_store import DomainFile, DomainMember, DomainStore, EpochKey, SignedObject
from ndn_infer.security.domains import SealBroken
from ndn_infer.transport.trust.key_records import MOST_JOINED, Renewal
from ndn_infer.wire.manifest import build_object
from tests.unit.trust_kit import NET, Authority, under_net

OWNER = under_net("/home/n1/domain")
USER = under_net("/home/n1/user")
AUTHORITY = Authority()
OWNER_KEY = AUTHORITY.issue("/home/n1/domain", AUTHORITY.root)
USER_KEY = AUTHORITY.issue("/home/n1/user", AUTHORITY.root)
ME = DecryptionKey.generate()


async def validate(data: Data, chain: Sequence[Certificate]) -> Name:
    return (await AUTHORITY.validator().validate(data)).identity


def unpack(text: str) -> SignedObject:
    return asyncio.run(store.unpack(text, validate))


def member(name: str, key: DecryptionKey) -> DomainMember:
    return DomainMember(f"/ndn-infer/local/home/{name}/user", key.public)


def exported(domain: DomainFile) -> str:
    return store.pack(store.issue(domain, NET, OWNER_KEY.signer, 7), [OWNER_KEY.certificate])


# ---------------------------------------------------------------- members


def test_from_card_to_member() -> None:
    card = unpack(store.pack(store.card(NET, USER_KEY.signer, ME, 1), []))
    joined = store.add(store.create("acme", OWNER), [store.member_of_card(NET, card)])
    assert joined.members == (member("n1", ME),)
    mine = store.join(NET, unpack(exported(joined)), [DecryptionKey.generate(), ME], None)
    assert (mine.name, mine.domain, mine.owner, mine.keys) == ("acme", joined.domain, joined.owner, joined.keys)
    assert mine.members == ()


def test_a_removed_member_gets_no_new_epoch() -> None:
    other = DecryptionKey.generate()
    first = store.add(store.create("acme", OWNER), [member("n1", ME), member("n2", other)])
    second = store.remove(first, [member("n1", ME).identity])
    assert [item.epoch for item in second.keys] == [1, 2] and second.keys[0] == first.keys[0]
    assert second.keys[0].key != second.keys[1].key
    with pytest.raises(MissingKey):
        store.join(NET, unpack(exported(second)), [ME], None)
    theirs = store.join(NET, unpack(exported(first)), [other], None)
    theirs = store.join(NET, unpack(exported(second)), [other], theirs)
    assert theirs.keys == second.keys
    newcomer = store.join(NET, unpack(exported(second)), [other], None)
    assert newcomer.keys == second.keys[1:]  # nothing older
    old, new = store.tenant_of(first), store.tenant_of(second)
    with pytest.raises(SealBroken):
        old.newest.open(USER, new.newest.seal(USER, b"x"))
    assert new.at(1).open(USER, old.newest.seal(USER, b"x")) == b"x"


def test_who_joins_again_after_an_older_record_keeps_the_newest() -> None:
    first = store.add(store.create("acme", OWNER), [member("n1", ME), member("n2", DecryptionKey.generate())])
    second = store.remove(first, [first.members[1].identity])
    mine = store.join(NET, unpack(exported(second)), [ME], None)
    mine = store.join(NET, unpack(exported(first)), [ME], mine)
    assert store.newest(mine).epoch == 2 and len(mine.keys) == 2
    with pytest.raises(BadRecord, match="another key"):
        forked = replace(first, keys=(EpochKey(1, bytes(32)),))
        store.join(NET, unpack(exported(forked)), [ME], mine)


def test_strangers_cannot_be_removed_and_nobody_is_added_twice() -> None:
    domain = store.add(store.create("acme", OWNER), [member("n1", ME)])
    with pytest.raises(UsageError, match="no member of acme"):
        store.remove(domain, ["/ndn-infer/local/home/n3/user"])
    renewed = DecryptionKey.generate()
    assert store.add(domain, [member("n1", renewed)]).members == (member("n1", renewed),)
    for bad in ("", "public", "x" * 65, "a\nb"):
        with pytest.raises(UsageError):
            store.create(bad, OWNER)
    with pytest.raises(MissingKey, match="no encryption key"):
        store.join(NET, unpack(exported(domain)), [], None)


def test_a_card_speaks_for_its_signer_only() -> None:
    packets = store.card(NET, USER_KEY.signer, ME, 1)
    card = unpack(store.pack(packets, []))
    for base, signed_by in ((card.base, OWNER), (USER, USER)):
        with pytest.raises(BadRecord):
            store.member_of_card(NET, SignedObject(base, card.content, signed_by))
    with pytest.raises(UsageError):
        store.card(NET, AUTHORITY.root.signer, ME, 1)
    others = build_object(card.base, 1, card.content, OWNER_KEY.signer.sign_data)
    with pytest.raises(KeyNotAllowed):
        unpack(store.pack(others, []))


def test_a_key_record_by_a_role_that_owns_no_domains() -> None:
    domain = store.create("acme", USER)
    with pytest.raises(KeyNotAllowed):
        unpack(store.pack(store.issue(domain, NET, USER_KEY.signer, 1), []))


# ---------------------------------------------------------------- files of packets


def test_large_records_travel_in_segments() -> None:
    domain = store.add(store.create("acme", OWNER), [member(f"n{n}", ME) for n in range(3)])
    many = [DomainMember(f"/x/{number}", DecryptionKey.generate().public) for number in range(70)]
    domain = store.add(domain, many)
    text = exported(domain)
    assert len(unpack(text).content) > 8000
    assert store.join(NET, unpack(text), [ME], None).keys == domain.keys
    packets = base64.b64decode(text)
    _, _, end = next(tlv.iterate(packets))
    cut = base64.b64encode(packets[: end + 8300]).decode()
    with pytest.raises(StorageError):
        unpack(cut)
    altered = bytearray(packets)
    altered[end + 4000] ^= 1  # within the first segment, whose digest is in the signed metadata
    with pytest.raises(DigestMismatch):
        unpack(base64.b64encode(altered).decode())


TEXT = exported(store.add(store.create("acme", OWNER), [member("n1", ME)]))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(base64.b64decode(TEXT)) - 1), st.integers(1, 255))
def test_any_altered_byte(position: int, change: int) -> None:
    """Altered bytes are refused, or lie in what is not read: a segment or certificate that is at hand otherwise."""
    wires = bytearray(base64.b64decode(TEXT))
    wires[position] ^= change
    try:
        found = unpack(base64.b64encode(wires).decode())
    except NdnInferError:
        return
    assert found == unpack(TEXT)


@settings(deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda item: base64.b64encode(item).decode()))
def test_any_text(text: str) -> None:
    with pytest.raises(NdnInferError):
        unpack(text)


def test_what_is_no_object() -> None:
    with pytest.raises(StorageError, match="empty"):
        unpack("")
    with pytest.raises(StorageError):
        unpack(base64.b64encode(OWNER_KEY.certificate.wire).decode())
    signed = decode_data(store.issue(store.create("a", OWNER), NET, OWNER_KEY.signer, 7).metadata)
    forged = signed.wire[:-4] + b"\0\0\0\0"
    with pytest.raises(BadSignature):
        unpack(base64.b64encode(forged).decode())


# ---------------------------------------------------------------- the directory


def test_files_are_private_and_found_again(tmp_path: Path) -> None:
    shop = DomainStore(tmp_path / "keys")
    assert not shop.domains() and not shop.tenants() and not shop.encryption_keys()
    domain = store.add(store.create("acme", OWNER), [member("n1", ME)])
    with shop.locked():
        shop.save(domain)
        path = shop.save_record(domain, exported(domain))
        key = shop.make_encryption_key(USER)
        assert shop.make_encryption_key(USER).public == key.public
    for file in (tmp_path / "keys").rglob("*"):
        mode = stat.S_IMODE(file.stat().st_mode)
        assert mode == (0o700 if file.is_dir() else 0o600), file
    assert shop.find("acme") == shop.find(domain.domain) == domain == shop.by_id(domain.domain)
    assert shop.record_path(domain) == path
    assert [item.public for item in shop.encryption_keys()] == [key.public]
    assert [item.newest.label for item in shop.tenants()] == [f"{domain.domain}.1"]
    with pytest.raises(UsageError, match="no domain"):
        shop.find("other")
    with pytest.raises(UsageError, match="at its owner"):
        shop.record_path(store.create("b", OWNER))
    with shop.locked():
        shop.save(store.create("acme", OWNER))
    with pytest.raises(UsageError, match="more than one"):
        shop.find("acme")


def test_files_that_others_can_read_or_that_are_damaged(tmp_path: Path) -> None:
    shop = DomainStore(tmp_path)
    domain = store.create("acme", OWNER)
    with shop.locked():
        shop.save(domain)
    path = tmp_path / "domains" / f"{domain.domain}.domain"
    path.chmod(0o644)
    with pytest.raises(StorageError, match="by others"):
        shop.find("acme")
    path.chmod(0o600)
    good = path.read_bytes()
    for bad in (b"", good[:-1], good + b"\0", good.replace(domain.keys[0].key, bytes(31) + b"")):
        path.write_bytes(bad)
        with pytest.raises(StorageError, match="damaged"):
            shop.find("acme")
        with pytest.raises(StorageError, match="damaged"):
            shop.by_id(domain.domain)
    path.write_bytes(good)
    path.rename(path.with_name("0" * 32 + ".domain"))
    with pytest.raises(StorageError, match="another domain"):
        shop.find("acme")


def test_one_damaged_domain_hides_no_other(tmp_path: Path) -> None:
    shop = DomainStore(tmp_path)
    good, bad = store.create("good", OWNER), store.create("bad", OWNER)
    with shop.locked():
        shop.save(good)
        shop.save(bad)
    (tmp_path / "domains" / f"{bad.domain}.domain").write_bytes(b"x")
    assert [tenant.domain for tenant in shop.tenants()] == [good.domain]
    assert shop.find("good") == good and shop.by_id(good.domain) == good and len(shop.damaged()) == 1


def test_an_owner_with_many_epochs_costs_its_members_the_newest_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read once for each change, and the keys of an epoch derived when it is used."""
    domain = store.create("acme", OWNER)
    key = domain.keys[0].key
    keys = tuple(EpochKey(epoch, key) for epoch in range(1, store.MAX_EPOCHS + 1))
    full = replace(domain, keys=keys, members=(DomainMember("/a", bytes(65)),))
    fresh = store.remove(full, ["/a"])
    assert len(fresh.keys) == store.MAX_EPOCHS and store.newest(fresh).epoch == store.MAX_EPOCHS + 1
    shop, read = DomainStore(tmp_path), list[Path]()
    with shop.locked():
        shop.save(fresh)
        monkeypatch.setattr(store, "read_private", lambda path, limit: (read.append(path), path.read_bytes())[1])
    tenants = [shop.tenants() for _ in range(100)]
    assert len(read) == 1 and tenants[0] == tenants[99]
    assert list(tenants[0][0]._epochs) == [store.MAX_EPOCHS + 1]


async def test_whoever_joins_late_asks_a_bounded_number_of_times_however_many_epochs_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Records:
        """95,000 epochs, none of which holds a key for us."""

        async def discover(self, base: Name) -> object:
            named = DomainKeyName.parse(NET, base)
            assert named is not None
            asked.append(int(named.epoch))
            return SimpleNamespace(manifest=True if asked[-1] <= 95_000 else None)

        async def collect(self, found: object, *, most: int) -> object:
            return SimpleNamespace(content=b"", signed_by=SimpleNamespace(identity=OWNER))

    monkeypatch.setattr(store, "join", lambda *_: (_ for _ in ()).throw(MissingKey("not for us")))
    with pytest.raises(MissingKey):
        await Renewal(NET, Records(), DomainStore(tmp_path)).join("ab" * 16)  # type: ignore[arg-type]
    assert 95_000 in asked and len(asked) <= MOST_JOINED + 40


# ---------------------------------------------------------------- commands


class Machine:
    def __init__(self, path: Path, node: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path / node
        self._settings = ["--set", f"paths.data_dir={self.path}", "--set", f"network.node={node}"]
        self._settings += ["--set", "network.net=/ndn-infer/local"]
        self._capsys = capsys

    def run(self, *words: object, fails: int = 0) -> str:
        assert main([*map(str, words), *self._settings]) == fails
        captured = self._capsys.readouterr()
        return captured.err if fails else captured.out


def test_two_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    owner, guest = Machine(tmp_path, "n1", capsys), Machine(tmp_path, "gpu1", capsys)
    bundle, card, record = tmp_path / "b", tmp_path / "card", tmp_path / "record"
    owner.run("keys", "init")
    owner.run("keys", "issue", "--site", "home", "--node", "gpu1", "--out", bundle)
    guest.run("keys", "import", bundle)
    assert "owned by /ndn-infer/local/home/n1/domain" in owner.run("domain", "create", "acme")
    assert "already" in owner.run("domain", "create", "acme", fails=2)
    guest.run("domain", "card", "--role", "decode", "--out", card)
    assert "2 members in epoch 1" in owner.run("domain", "add", "acme", card, "/ndn-infer/local/home/n1/user")
    owner.run("domain", "export", "acme", "--out", record)
    assert "member of domain acme, epoch 1" in guest.run("domain", "join", record)
    mine, theirs = (json.loads(machine.run("domain", "list", "--json"))[0] for machine in (owner, guest))
    assert mine["label"] == theirs["label"] == mine["id"] + ".1"
    assert len(mine["members"]) == 2 and theirs["members"] == []
    assert "epoch 1" in guest.run("domain", "list")

    gone = "/ndn-infer/local/home/gpu1/decode"
    assert "epoch 2, 1 members" in owner.run("domain", "remove", "acme", gone)
    owner.run("domain", "export", "acme", "--out", record)
    assert "holds nothing for this machine" in guest.run("domain", "join", record, fails=4)
    assert "epochs   1, 2" in owner.run("domain", "show", "acme")
    assert gone not in owner.run("domain", "show", "acme")
    assert "at its owner" in guest.run("domain", "export", "acme", "--out", record, fails=2)
    assert "no private key" in guest.run("domain", "add", "acme", card, fails=4)
    assert "neither a file nor" in owner.run("domain", "add", "acme", "bob", fails=2)
    assert "takes" in owner.run("domain", "show", fails=2)
    assert "--out" in owner.run("domain", "export", "acme", fails=2)
    assert "no domains here" in Machine(tmp_path, "other", capsys).run("domain", "list")
    assert "damaged" in guest.run("domain", "join", bundle, fails=7)
    assert "not a domain key" in guest.run("domain", "join", card, fails=2)
    assert "not an encryption key" in owner.run("domain", "add", "acme", record, fails=2)


def test_the_operator_may_own_a_domain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(tmp_path, "n1", capsys)
    machine.run("keys", "init")
    assert "owned by /ndn-infer/local/operator" in machine.run("domain", "create", "acme", "--operator")
    machine.run("domain", "add", "acme", "/ndn-infer/local/home/n1/user")
    record = tmp_path / "record"
    machine.run("domain", "export", "acme", "--out", record)
    assert "member of domain acme" in machine.run("domain", "join", record)


def test_a_card_of_another_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    owner, stranger = Machine(tmp_path / "a", "n1", capsys), Machine(tmp_path / "b", "n1", capsys)
    owner.run("domain", "create", "acme")
    stranger.run("keys", "init")
    stranger.run("domain", "card", "--out", tmp_path / "card")
    owner.run("domain", "add", "acme", tmp_path / "card", fails=4)
    assert json.loads(owner.run("domain", "show", "acme", "--json"))["members"] == []
