"""How a validator gets certificates: once for all who wait, again after a failure, and never for a stranger's sake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ndn_infer import ndn
from ndn_infer.errors import BadSignature, CertificateExpired, CertificateUnavailable, KeyNotAllowed, Nacked
from ndn_infer.ndn.name import Name
from ndn_infer.security import certificate_fetch
from ndn_infer.security.certificate_fetch import FAILURE_S, TRIES, CertificateFetcher
from tests.unit.trust_kit import NOW, Authority, Holder, kv_name


@pytest.fixture
def authority() -> Authority:
    return Authority()


def decode_of(authority: Authority) -> Holder:
    return authority.issue("/home/n1/decode", authority.root)


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


# ---------------------------------------------------------------- single flight


async def test_many_validations_fetch_once(authority: Authority) -> None:
    site = authority.issue("/home", authority.root)
    decode = authority.issue("/home/n1/decode", site)
    authority.gate = asyncio.Event()
    validator = authority.validator()
    waiting = [asyncio.ensure_future(validator.validate(decode.data(kv_name(number)))) for number in range(50)]
    await settle()
    assert authority.asked == [decode.certificate.name]
    authority.gate.set()
    proofs = await asyncio.gather(*waiting)
    assert len(set(proofs)) == 1
    assert authority.asked == [decode.certificate.name, site.certificate.name]


async def test_a_cancelled_waiter_leaves_the_others(authority: Authority) -> None:
    decode = decode_of(authority)
    authority.gate = asyncio.Event()
    validator = authority.validator()
    first, second, third = (asyncio.ensure_future(validator.validate(decode.data(kv_name()))) for _ in range(3))
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled() and not second.done()
    authority.gate.set()
    assert (await second) == (await third)
    assert len(authority.asked) == 1


async def test_all_waiters_cancelled(authority: Authority) -> None:
    """The fetch ends: nobody can fill all places with what nobody waits for. Who comes then fetches anew."""
    decode = decode_of(authority)
    authority.gate = asyncio.Event()
    authority.served.clear()
    validator = authority.validator()
    task = asyncio.ensure_future(validator.validate(decode.data(kv_name())))
    await settle()
    task.cancel()
    await settle()
    assert not validator._fetcher._tasks and not validator._fetcher._waiting
    with pytest.raises(CertificateUnavailable):
        authority.gate.set()
        await validator.validate(decode.data(kv_name()))
    assert len(authority.asked) == 1 + TRIES


async def test_closing_stops_the_fetches(authority: Authority) -> None:
    decode = decode_of(authority)
    authority.gate = asyncio.Event()
    validator = authority.validator()
    task = asyncio.ensure_future(validator.validate(decode.data(kv_name())))
    await settle()
    await validator.aclose()
    with pytest.raises(asyncio.CancelledError):
        await task


# ---------------------------------------------------------------- failing


async def test_failing_then_succeeding(authority: Authority) -> None:
    decode = decode_of(authority)
    authority.fail_next = TRIES - 1
    await authority.validator().validate(decode.data(kv_name()))
    assert len(authority.asked) == TRIES
    assert authority.slept == list(certificate_fetch.BACKOFF_S)


async def test_failing_for_good_and_being_asked_again_later(authority: Authority) -> None:
    decode = decode_of(authority)
    authority.fail_next = TRIES
    validator = authority.validator()
    for _ in range(3):
        with pytest.raises(CertificateUnavailable, match="no answer"):
            await validator.validate(decode.data(kv_name()))
        assert len(authority.asked) == TRIES  # not asked again at once
    authority.now += FAILURE_S
    await validator.validate(decode.data(kv_name()))
    assert len(authority.asked) == TRIES + 1


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("y"), OSError(), TimeoutError(), Nacked("no route")])
async def test_whatever_the_fetch_raises(authority: Authority, error: Exception) -> None:
    decode = decode_of(authority)

    async def broken(name: Name) -> bytes:
        raise error

    authority.fetch = broken  # type: ignore[method-assign]
    with pytest.raises(CertificateUnavailable):
        await authority.validator().validate(decode.data(kv_name()))


@pytest.mark.parametrize(
    "answer",
    [
        lambda holder, root: b"",
        lambda holder, root: b"\x06\x03abc",
        lambda holder, root: root.certificate.wire,
        lambda holder, root: holder.data(kv_name()).wire,
    ],
    ids=["empty", "garbage", "another certificate", "no certificate"],
)
async def test_what_comes_back_is_not_what_was_asked(
    authority: Authority, answer: Callable[[Holder, Holder], bytes]
) -> None:
    decode = decode_of(authority)
    authority.served[decode.certificate.name] = answer(decode, authority.root)
    with pytest.raises(CertificateUnavailable):
        await authority.validator().validate(decode.data(kv_name()))


async def test_a_bad_certificate_is_not_kept(authority: Authority) -> None:
    """A forged certificate in some Content Store: refused, not asked for in a hurry, and gone after a moment."""
    decode = decode_of(authority)
    good = authority.served[decode.certificate.name]
    authority.served[decode.certificate.name] = good[:-1] + bytes([good[-1] ^ 1])
    validator = authority.validator()
    for _ in range(3):
        with pytest.raises(BadSignature, match="certificate /ndn-infer"):
            await validator.validate(decode.data(kv_name()))
    assert len(authority.asked) == 1
    authority.served[decode.certificate.name] = good
    authority.now += FAILURE_S
    await validator.validate(decode.data(kv_name()))


async def test_an_expired_certificate_is_not_asked_for_in_a_hurry(authority: Authority) -> None:
    decode = authority.issue("/home/n1/decode", authority.root, end=NOW - 5)
    validator = authority.validator()
    for _ in range(3):
        with pytest.raises(CertificateExpired):
            await validator.validate(decode.data(kv_name()))
    assert authority.asked == [decode.certificate.name, decode.certificate.key_name]


# ---------------------------------------------------------------- strangers


async def test_no_fetch_for_keys_that_may_not_sign(authority: Authority) -> None:
    validator = authority.validator()
    for identity in ("/home/n1/rag", "/home/n1", "/home", "/operator", "/model/x/decode"):
        stranger = authority.issue(identity, None)
        with pytest.raises(KeyNotAllowed):
            await validator.validate(stranger.data(kv_name()))
    other = Authority(net=ndn.from_uri("/elsewhere"))
    with pytest.raises(KeyNotAllowed):
        await validator.validate(other.issue("/home/n1/decode", other.root).data(kv_name()))
    assert authority.asked == []


async def test_one_fetch_for_many_packets_of_a_stranger(authority: Authority) -> None:
    """A key locator that the schema allows, and no such certificate: one fetch a moment, however many packets."""
    stranger = authority.issue("/home/n1/decode", None)
    authority.served.clear()
    validator = authority.validator()
    for number in range(100):
        with pytest.raises(CertificateUnavailable):
            await validator.validate(stranger.data(kv_name(number)))
    assert len(authority.asked) == TRIES


async def test_a_stranger_does_not_shut_out_the_owner_of_a_key(authority: Authority) -> None:
    """A forged certificate under the owner's key name, with another issuer: the owner's own is still fetched."""
    decode = decode_of(authority)
    key_id = ndn.component_value(ndn.components(decode.certificate.key_name)[-1]).decode()
    forger = Authority(count=100)
    forged = forger.issue("/home/n1/decode", forger.root, key_id=key_id, locator=authority.root.certificate.name)
    authority.served[forged.certificate.name] = forged.certificate.wire
    validator = authority.validator()
    assert forged.certificate.name != decode.certificate.name
    with pytest.raises(BadSignature):
        await validator.validate(forged.data(kv_name()))
    await validator.validate(decode.data(kv_name()))
    with pytest.raises(BadSignature):
        await validator.validate(forged.data(kv_name()))


async def test_fetches_at_one_time_are_bounded(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_fetch, "MAX_FETCHES", 4)
    authority.gate = asyncio.Event()
    validator = authority.validator()
    holders = [authority.issue(f"/home/n{number}/decode", authority.root) for number in range(5)]
    waiting = [asyncio.ensure_future(validator.validate(holder.data(kv_name()))) for holder in holders[:4]]
    await settle()
    with pytest.raises(CertificateUnavailable, match="being fetched already"):
        await validator.validate(holders[4].data(kv_name()))
    authority.gate.set()
    await asyncio.gather(*waiting)
    await validator.validate(holders[4].data(kv_name()))


async def test_memory_of_failures_and_offers_is_bounded(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_fetch, "MAX_REMEMBERED", 3)
    authority.fail_next = 100
    fetcher = CertificateFetcher(authority.fetch, monotonic=lambda: 0.0, sleep=authority.sleep)
    for number in range(10):
        with pytest.raises(CertificateUnavailable):
            await fetcher.fetch(ndn.from_uri(f"/a/KEY/{number}"))
        fetcher.offer(authority.issue(f"/home/n{number}", authority.root).certificate)
    assert len(fetcher._failures) == 3
    assert len(fetcher._offered) == 3
    assert not fetcher._tasks
