"""Keys that the operator revoked: refused at once, from caches too, by identity and by key, and never taken back."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ndn_infer import catalog, ndn, records
from ndn_infer.cli import main
from ndn_infer.errors import KeyRevoked, RevocationsUnknown, Timeout
from ndn_infer.namespace import CatalogRecord
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.revocation import Denied, DenyList, RevocationList
from ndn_infer.security.trust import TrustSchema
from ndn_infer.transport.trust.revocation_feed import RevocationFeed
from tests.unit.test_validator_interest import CALL, ask
from tests.unit.trust_kit import DAY, NET, NOW, Authority, kv_name, under_net

LATER = int(NOW + 30 * DAY)
AFTER_ALL = 1 << 62


@pytest.fixture
def authority() -> Authority:
    return Authority()


def denied(name: ndn.Name, before: int = 0) -> RevocationList:
    return RevocationList(LATER, (Denied(ndn.to_uri(name), before, "stolen"),))


@pytest.mark.parametrize("what", ["key", "certificate", "identity", "node", "site"])
async def test_what_a_revoked_key_signed_is_refused_although_it_was_believed_before(
    authority: Authority, what: str
) -> None:
    site = authority.issue("/home", authority.root)
    decode = authority.issue("/home/n1/decode", site)
    other = authority.issue("/lab/n1/decode", authority.root)
    validator = authority.validator()
    await validator.validate(decode.data(kv_name()))
    target, before = {
        "key": (decode.certificate.key_name, 0), "certificate": (decode.certificate.name, 0),
        "identity": (under_net("/home/n1/decode"), AFTER_ALL), "node": (under_net("/home/n1"), AFTER_ALL),
        "site": (under_net("/home"), AFTER_ALL),
    }[what]  # fmt: skip
    validator.deny(denied(target, before))
    with pytest.raises(KeyRevoked, match="stolen"):
        await validator.validate(decode.data(kv_name()))
    with pytest.raises(KeyRevoked):
        await validator.validate(decode.certificate.data)
    await validator.validate(other.data(kv_name()))


async def test_commands_of_a_revoked_key_are_refused(authority: Authority) -> None:
    user = authority.issue("/home/n1/user", authority.root)
    validator = authority.validator()
    await validator.validate_interest(ask(user, CALL))
    validator.deny(denied(user.certificate.key_name))
    with pytest.raises(KeyRevoked):
        await validator.validate_interest(ask(user, CALL))


async def test_an_identity_with_a_new_key_is_believed_again(authority: Authority) -> None:
    old = authority.issue("/home/n1/decode", authority.root)  # versions count from 1 here
    new = authority.issue("/home/n1/decode", authority.root)
    validator = authority.validator()
    validator.deny(denied(under_net("/home/n1"), before=authority.count))
    with pytest.raises(KeyRevoked):
        await validator.validate(old.data(kv_name()))
    await validator.validate(new.data(kv_name()))


async def test_a_newer_list_takes_no_denial_back(authority: Authority) -> None:
    decode = authority.issue("/home/n1/decode", authority.root)
    validator = authority.validator()
    validator.deny(denied(decode.certificate.key_name))
    validator.deny(RevocationList(LATER + 1))
    with pytest.raises(KeyRevoked):
        await validator.validate(decode.data(kv_name()))


async def test_where_a_list_is_required_nobody_is_believed_without_a_valid_one(authority: Authority) -> None:
    decode, operator = authority.issue("/home/n1/decode", authority.root), authority.issue("/operator", authority.root)
    validator = authority.validator(require_deny_list=True)
    with pytest.raises(RevocationsUnknown):
        await validator.validate(decode.data(kv_name()))
    name = CatalogRecord("keys", "revoked").to_name(NET) + ndn.from_uri("/32=metadata/v=1/seg=0")
    await validator.validate(operator.data(name))
    validator.deny(RevocationList(LATER))
    await validator.validate(decode.data(kv_name()))
    authority.now = LATER + 1.0
    with pytest.raises(RevocationsUnknown):
        await validator.validate(decode.data(kv_name()))


def test_operator_and_anchor_sign_the_list_and_nobody_else(authority: Authority) -> None:
    name = CatalogRecord("keys", "revoked").to_name(NET) + ndn.from_uri("/32=metadata/v=1/seg=0")
    schema = TrustSchema.load(NET)
    allowed = {
        uri: schema.check(name, authority.issue(uri, authority.root).certificate.name).allowed
        for uri in ("/operator", "/home", "/home/n1", "/home/n1/domain")
    }
    assert allowed == {"/operator": True, "/home": False, "/home/n1": False, "/home/n1/domain": False}
    assert schema.check(name, authority.root.certificate.name).allowed


# ---------------------------------------------------------------- on its way


class Network:
    """Shaped like a Fetcher that finds one list."""

    def __init__(self) -> None:
        self.found: RevocationList | None = None

    async def fetch(self, base: ndn.Name, *, most: int) -> Any:
        assert base == CatalogRecord("keys", "revoked").to_name(NET)
        assert self.found is None or len(records.encode(self.found)) <= most
        if self.found is None:
            raise Timeout("nobody has it")
        return SimpleNamespace(content=records.encode(self.found))


async def test_what_was_denied_is_kept_for_the_next_start_when_nobody_has_the_list(
    authority: Authority, tmp_path: Path
) -> None:
    decode, network = authority.issue("/home/n1/decode", authority.root), Network()
    network.found = denied(decode.certificate.key_name)
    feed = RevocationFeed(network, authority.validator(), tmp_path / "revoked")  # type: ignore[arg-type]
    assert await feed.refresh()
    network.found = None
    validator = authority.validator()
    again = RevocationFeed(network, validator, tmp_path / "revoked")  # type: ignore[arg-type]
    assert await again.refresh(), "still valid"
    with pytest.raises(KeyRevoked):
        await validator.validate(decode.data(kv_name()))
    assert stat.S_IMODE((tmp_path / "revoked").stat().st_mode) == 0o600
    (tmp_path / "revoked").write_bytes(b"damaged")
    RevocationFeed(network, authority.validator(), tmp_path / "revoked")  # type: ignore[arg-type]


# ---------------------------------------------------------------- the commands


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*words: str, place: str = "operator", fails: int = 0) -> str:
        settings = ["--set", f"paths.data_dir={tmp_path / place}", "--set", "network.net=/ndn-infer/local"]
        assert main(["keys", *words, *settings]) == fails
        captured = capsys.readouterr()
        return captured.err if fails else captured.out

    return command


def keys_of(tmp_path: Path, place: str) -> Keychain:
    return Keychain.open(tmp_path / place / "ndn-infer+local" / "keys")


def test_revoke_removes_the_keys_here_and_issue_makes_others(tmp_path: Path, run: Any) -> None:
    bundle = str(tmp_path / "bundle")
    issue = ("issue", "--site", "lab", "--node", "gpu1", "--roles", "decode", "--out", bundle)
    run("init")
    run(*issue)
    decode = under_net("/lab/gpu1/decode")
    old = keys_of(tmp_path, "operator").signer_for(decode)
    assert "removed from this machine" in run("revoke", "lab/gpu1", "--reason", "stolen")
    found = catalog.revocations(tmp_path / "operator" / "ndn-infer+local" / "catalog")
    assert found is not None and len(found[1].denied) == 3  # the node with all below it, and two keys by name
    deny = DenyList()
    deny.join(found[1])
    run(*issue)
    new = keys_of(tmp_path, "operator").usable(decode)
    assert new is not None and new[0].key_name not in (old.info.key_locator or b"")
    assert deny.reason(new[0]) is None
    run("revoke", "operator")  # signed by the anchor: whoever has the operator's key cannot keep it
    assert "no keys" in run("revoke", "/elsewhere/x y/KEY", fails=2)


def test_export_hands_out_keys_again_and_the_anchor_alone(tmp_path: Path, run: Any) -> None:
    bundle = str(tmp_path / "bundle")
    run("init")
    run("issue", "--site", "lab", "--node", "gpu1", "--roles", "decode", "--out", bundle)
    run("export", "lab/gpu1", "--out", bundle + ".again")
    run("import", bundle + ".again", place="gpu1")
    decode = under_net("/lab/gpu1/decode")
    assert keys_of(tmp_path, "gpu1").usable(decode) is not None
    run("export", "--out", bundle + ".anchor")
    assert "enough to read" in run("import", bundle + ".anchor", place="reader")
    assert "PRIVATE" not in Path(bundle + ".anchor").read_text()


def test_renewed_certificates_travel_without_private_keys(tmp_path: Path, run: Any) -> None:
    bundle = str(tmp_path / "bundle")
    run("init")
    run("issue", "--site", "lab", "--node", "gpu1", "--roles", "decode", "--out", bundle, "--days", "1")
    run("import", bundle, place="gpu1")
    decode = under_net("/lab/gpu1/decode")
    before = keys_of(tmp_path, "gpu1").usable(decode)
    run("renew", "lab/gpu1", "--out", bundle + ".new")
    assert "PRIVATE" not in Path(bundle + ".new").read_text()
    assert "/lab/gpu1/decode" in run("import", bundle + ".new", place="gpu1")
    after = keys_of(tmp_path, "gpu1").usable(decode)
    assert before is not None and after is not None
    assert after[0].key_name == before[0].key_name
    assert after[0].not_after > before[0].not_after + 80 * DAY
