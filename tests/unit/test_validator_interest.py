"""Signed Interests: who may ask, and that each is accepted once."""

from __future__ import annotations

import secrets
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, BadSignature, CertificateExpired, KeyNotAllowed, TrustError
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Interest, SignatureInfo, decode_interest, encode_interest
from ndn_infer.security import replay_journal
from ndn_infer.security.replay import ReplayWindow
from ndn_infer.security.replay_journal import ReplayJournal
from tests.unit.trust_kit import DIGEST, NOW, Authority, Holder, under_net

CALL = under_net(f"/model/{DIGEST}/generate/private/{DIGEST}")


def ask(holder: Holder, name: Name = CALL, *, time: float = NOW, nonce: bytes = b"") -> Interest:
    wire, _ = holder.signer.sign_interest(
        name,
        b"parameters",
        nonce=secrets.token_bytes(4),
        signature_nonce=nonce or secrets.token_bytes(8),
        time_ms=int(time * 1000),
    )
    return decode_interest(wire)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def user(authority: Authority) -> Holder:
    return authority.issue("/home/n1/user", authority.root)


async def test_a_private_call(authority: Authority, user: Holder) -> None:
    proof = await authority.validator().validate_interest(ask(user))
    assert proof.rule == "request"
    assert proof.identity == under_net("/home/n1/user")


async def test_the_same_interest_twice(authority: Authority, user: Holder) -> None:
    validator = authority.validator()
    interest = ask(user)
    await validator.validate_interest(interest)
    with pytest.raises(BadSignature, match="seen before"):
        await validator.validate_interest(interest)
    await validator.validate_interest(ask(user))


async def test_who_may_not_ask(authority: Authority, user: Holder) -> None:
    validator = authority.validator()
    for identity in ("/home/n1", "/home", "/operator"):
        with pytest.raises(KeyNotAllowed):
            await validator.validate_interest(ask(authority.issue(identity, authority.root)))
    with pytest.raises(KeyNotAllowed):
        await validator.validate_interest(ask(user, under_net(f"/model/{DIGEST}/generate/shared/{DIGEST}")))
    assert authority.asked == []
    with pytest.raises(KeyNotAllowed):
        await validator.validate_interest(ask(authority.issue("/home/n1/user", None)))


async def test_an_interest_is_not_its_answer(authority: Authority, user: Holder) -> None:
    """The user may ask under this name; Data under it signed by the user is refused."""
    interest = ask(user)
    validator = authority.validator()
    await validator.validate_interest(interest)
    with pytest.raises(KeyNotAllowed, match="decode or role of the same name may sign it"):
        await validator.validate(user.data(interest.name))


async def test_unsigned(authority: Authority) -> None:
    wire, _ = encode_interest(CALL, nonce=b"1234", parameters=b"x")
    with pytest.raises(BadSignature, match="not signed"):
        await authority.validator().validate_interest(decode_interest(wire))


async def test_digest_signed(authority: Authority) -> None:
    info = SignatureInfo(0, nonce=bytes(8), time_ms=int(NOW * 1000))
    wire, _ = encode_interest(CALL, nonce=b"1234", parameters=b"x", info=info, signer=lambda portion: bytes(32))
    with pytest.raises(BadSignature, match="does not prove"):
        await authority.validator().validate_interest(decode_interest(wire))


async def test_a_name_with_the_digest_of_other_parameters(authority: Authority, user: Holder) -> None:
    interest = ask(user)
    other = CALL + ndn.parameters_digest(bytes(32))
    with pytest.raises(BadSignature, match="digest of the parameters"):
        await authority.validator().validate_interest(replace(interest, name=other))


async def test_an_expired_user(authority: Authority) -> None:
    user = authority.issue("/home/n1/user", authority.root, end=NOW - 1)
    with pytest.raises(CertificateExpired):
        await authority.validator().validate_interest(ask(user))


async def test_every_flipped_byte(authority: Authority, user: Holder) -> None:
    validator = authority.validator()
    wire, _ = user.signer.sign_interest(
        CALL, b"parameters", nonce=b"1234", signature_nonce=bytes(8), time_ms=int(NOW * 1000)
    )
    accepted = []
    for at in range(len(wire)):
        raw = bytearray(wire)
        raw[at] ^= 1
        try:
            await validator.validate_interest(decode_interest(bytes(raw)))
        except (BadPacket, TrustError):
            continue
        accepted.append(at)
    # The forwarding nonce (4 bytes) is the only part that no signature covers; of those four one is accepted, since
    # after it the others are replays.
    assert len(accepted) == 1
    assert wire[accepted[0] : accepted[0] + 4] == b"1234"


async def test_a_forged_interest_leaves_no_trace(authority: Authority, user: Holder) -> None:
    """Replay state is touched only after the signature has been verified."""
    validator = authority.validator()
    interest = ask(user)
    forged = replace(interest, signature=bytes(len(interest.signature)))
    with pytest.raises(BadSignature, match="the signature is not one of the key"):
        await validator.validate_interest(forged)
    await validator.validate_interest(interest)


# ---------------------------------------------------------------- the window itself

KEY = ndn.from_uri("/u/KEY/1")


def info(nonce: int, time: float = NOW, sequence: int | None = None) -> SignatureInfo:
    return SignatureInfo(3, nonce=nonce.to_bytes(8, "big"), time_ms=int(time * 1000), sequence=sequence)


def refused(window: ReplayWindow, item: SignatureInfo, now: float = NOW, key: Name = KEY) -> bool:
    try:
        window.accept(key, item, now)
    except BadSignature:
        return True
    return False


def test_times_may_come_in_any_order_within_the_grace() -> None:
    window = ReplayWindow(grace_s=60)
    for number, offset in enumerate((0, -59, 59, -1, 0)):
        window.accept(KEY, info(number, NOW + offset), NOW)


@pytest.mark.parametrize("offset", [-61, 61, -1e6, 1e6])
def test_times_beyond_the_grace(offset: float) -> None:
    with pytest.raises(BadSignature, match="off this machine's clock"):
        ReplayWindow(grace_s=60).accept(KEY, info(1, NOW + offset), NOW)


@pytest.mark.parametrize(
    "bad",
    [
        SignatureInfo(3),
        SignatureInfo(3, nonce=bytes(8)),
        SignatureInfo(3, time_ms=int(NOW * 1000)),
        SignatureInfo(3, nonce=bytes(7), time_ms=int(NOW * 1000)),
    ],
)
def test_what_cannot_be_told_from_a_replay(bad: SignatureInfo) -> None:
    with pytest.raises(BadSignature, match="SignatureNonce"):
        ReplayWindow().accept(KEY, bad, NOW)


def test_sequence_numbers_increase() -> None:
    window = ReplayWindow()
    window.accept(KEY, info(1, sequence=5), NOW)
    assert refused(window, info(2, sequence=5))
    assert refused(window, info(3, sequence=4))
    assert not refused(window, info(4, sequence=6))


def test_keys_are_apart() -> None:
    window = ReplayWindow()
    window.accept(KEY, info(1), NOW)
    window.accept(ndn.from_uri("/v/KEY/1"), info(1), NOW)


def test_an_old_nonce_comes_back_too_late() -> None:
    window = ReplayWindow(grace_s=60)
    window.accept(KEY, info(1, NOW), NOW)
    assert refused(window, info(1, NOW), NOW + 59)
    assert refused(window, info(1, NOW), NOW + 61)


def test_a_forgotten_nonce_stays_refused() -> None:
    """Room for two nonces: what is dropped raises a floor under the times that are accepted."""
    window = ReplayWindow(max_nonces=2)
    for number in range(4):
        window.accept(KEY, info(number, NOW + number), NOW)
    for number in range(4):
        assert refused(window, info(number, NOW + number))
    assert refused(window, info(9, NOW + 1))  # older than what is remembered
    assert not refused(window, info(9, NOW + 2))


def test_a_forgotten_key_stays_refused() -> None:
    """Room for two keys: the third makes the first be forgotten, and its Interests are refused all the same."""
    window = ReplayWindow(max_keys=2)
    keys = [ndn.from_uri(f"/{number}/KEY/1") for number in range(4)]
    for number, key in enumerate(keys):
        window.accept(key, info(number, NOW + number), NOW)
    assert len(window) == 2
    for number, key in enumerate(keys):
        assert refused(window, info(number, NOW + number), key=key)
    assert not refused(window, info(0, NOW + 10), key=keys[0])


SITES = [ndn.from_uri(f"/net/{site}") for site in ("lab", "home")]


def test_a_site_that_dates_the_commands_of_a_thousand_keys_ahead_locks_out_nobody_else() -> None:
    lab, home = SITES
    window = ReplayWindow(max_keys=100)
    for number in range(1001):
        key = lab + ndn.from_uri(f"/n/{number}/KEY/1")
        window.accept(key, info(number, NOW + 100 + number * 0.01), NOW, group=lab)
    assert len(window) == 100
    for number in range(50):
        key = home + ndn.from_uri(f"/n/{number}/KEY/1")
        window.accept(key, info(number, NOW), NOW, group=home)
        with pytest.raises(BadSignature, match="seen before"):
            window.accept(key, info(number, NOW), NOW, group=home)
    assert len(window) == 100
    with pytest.raises(BadSignature):  # its own keys meet the floor that it raised itself
        window.accept(lab + ndn.from_uri("/n/new/KEY/1"), info(1, NOW), NOW, group=lab)


def test_a_restarted_verifier_accepts_nothing_that_was_accepted_before(tmp_path: Path) -> None:
    file, oldest = tmp_path / "replay", int((NOW - 120) * 1000)
    before = ReplayWindow(journal=ReplayJournal(file, oldest_ms=oldest))
    before.accept(KEY, info(1, NOW + 100), NOW)
    before.accept(KEY, info(2, NOW), NOW)
    after = ReplayWindow(journal=ReplayJournal(file, oldest_ms=oldest))
    assert refused(after, info(1, NOW + 100)) and refused(after, info(2, NOW))
    assert not refused(after, info(3, NOW), key=ndn.from_uri("/v/KEY/1")), "other keys are not concerned"
    assert not refused(after, info(4, NOW + 101))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_journal_stays_small_and_one_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_journal, "_MAX_BYTES", 160)
    journal = ReplayJournal(tmp_path / "replay", oldest_ms=0)
    for number in range(1000):
        journal.note(KEY, number)
    assert (tmp_path / "replay").stat().st_size <= 3 * 160
    assert ReplayJournal(tmp_path / "replay", oldest_ms=0).floor_ms(KEY) == 999
    nowhere = ReplayWindow(journal=ReplayJournal(tmp_path / "no folder" / "replay", oldest_ms=0))
    nowhere.accept(KEY, info(1), NOW)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 40), st.integers(0, 6)),
        min_size=1,
        max_size=150,
    )
)
def test_nothing_is_accepted_twice(events: list[tuple[int, int, int]]) -> None:
    """Keys, times and nonces in any order, with room for 2 keys and 3 nonces: everything is accepted once at most."""
    window = ReplayWindow(grace_s=60, max_keys=2, max_nonces=3)
    now = NOW
    seen: set[tuple[int, int]] = set()
    for key, number, step in events:
        now += step
        # A replay has the nonce and the time of the original, so both follow from one number here.
        if refused(window, info(number, NOW + number * 5), now, ndn.from_uri(f"/{key}/KEY/1")):
            continue
        assert (key, number) not in seen
        seen.add((key, number))
    assert len(window) <= 2
