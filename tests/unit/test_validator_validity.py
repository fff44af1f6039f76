"""The validator and time: anchors that are renewed, certificates that run out, what its cache keeps."""

from __future__ import annotations

import pytest

from ndn_infer import ndn
from ndn_infer.errors import (
    BadSignature,
    CertificateExpired,
    TrustError,
)
from ndn_infer.security import certificate as certs
from ndn_infer.security.crypto import KEY_KINDS
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from tests.unit.trust_kit import DAY, NET, NOW, Authority, Holder, kv_name, site_chain


@pytest.fixture(params=KEY_KINDS)
def authority(request: pytest.FixtureRequest) -> Authority:
    return Authority(kind=request.param)


# ---------------------------------------------------------------- the anchor


async def test_anchors_that_are_refused(authority: Authority) -> None:
    other = Authority(net=ndn.from_uri("/other"))
    site = authority.issue("/home", authority.root)
    unsigned = Holder(certs.parse(site.certificate.wire), site.key)
    fake = authority.issue("", site)
    for wrong in (other.root, unsigned, fake):
        with pytest.raises(TrustError):
            authority.validator(anchor=wrong)


async def test_an_anchor_with_a_forged_self_signature() -> None:
    authority = Authority()
    raw = bytearray(authority.root.certificate.wire)
    raw[-1] ^= 1
    forged = certs.parse(bytes(raw))
    with pytest.raises(BadSignature):
        Validator(TrustSchema.load(NET), forged, authority.fetch)


async def test_a_renewed_anchor_keeps_the_chains(authority: Authority) -> None:
    """Certificates name the anchor's certificate of their time; a later one of the same key serves as well."""
    _, decode = site_chain(authority)
    key_id = ndn.component_value(ndn.components(authority.root.certificate.key_name)[-1]).decode()
    renewed = authority.issue("", None, key=authority.root.key, key_id=key_id)
    assert renewed.certificate.name != authority.root.certificate.name
    await authority.validator(anchor=renewed).validate(decode.data(kv_name()))


# ---------------------------------------------------------------- validity


@pytest.mark.parametrize("when", ["expired", "not yet valid"])
async def test_a_certificate_as_data_counts_only_within_its_own_validity(authority: Authority, when: str) -> None:
    bounds = {"end": NOW - 1} if when == "expired" else {"start": NOW + 1}
    site = authority.issue("/home", authority.root)
    decode = authority.issue("/home/n1/decode", site, **bounds)
    with pytest.raises(CertificateExpired):
        await authority.validator().validate(decode.certificate.data)
    await authority.validator().validate(site.certificate.data)


@pytest.mark.parametrize("level", ["anchor", "site", "role"])
@pytest.mark.parametrize("when", ["expired", "not yet valid"])
async def test_validity_at_each_level(authority: Authority, level: str, when: str) -> None:
    bounds = {"end": NOW - 1} if when == "expired" else {"start": NOW + 1}
    if level == "anchor":
        authority.root = authority.issue("", None, **bounds)
    site = authority.issue("/home", authority.root, **(bounds if level == "site" else {}))
    decode = authority.issue("/home/n1/decode", site, **(bounds if level == "role" else {}))
    validator = authority.validator()
    with pytest.raises(CertificateExpired, match="expired" if when == "expired" else "not valid before") as caught:
        await validator.validate(decode.data(kv_name()))
    wrong = {"anchor": authority.root, "site": site, "role": decode}[level]
    assert ndn.to_uri(wrong.certificate.name) in str(caught.value)
    assert str(caught.value).startswith("Data /ndn-infer/local/model/") or level == "anchor"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("level", ["anchor", "site", "role"])
async def test_what_was_good_expires_in_the_cache(authority: Authority, level: str) -> None:
    end = NOW + 100
    if level == "anchor":
        authority.root = authority.issue("", None, end=end)
    site = authority.issue("/home", authority.root, end=end if level == "site" else NOW + DAY)
    decode = authority.issue("/home/n1/decode", site, end=end if level == "role" else NOW + DAY)
    validator = authority.validator()
    await validator.validate(decode.data(kv_name()))
    authority.now = end
    assert validator.try_validate(decode.data(kv_name())) is not None
    authority.now = end + 1
    assert validator.try_validate(decode.data(kv_name())) is None
    with pytest.raises(CertificateExpired):
        await validator.validate(decode.data(kv_name()))


async def test_the_clock_may_be_set_back(authority: Authority) -> None:
    _, decode = site_chain(authority)
    validator = authority.validator()
    await validator.validate(decode.data(kv_name()))
    authority.now = NOW - 10 * DAY
    with pytest.raises(CertificateExpired, match="not valid before"):
        await validator.validate(decode.data(kv_name()))


async def test_a_renewed_certificate_serves_for_what_the_old_one_signed(authority: Authority) -> None:
    site = authority.issue("/home", authority.root)
    old = authority.issue("/home/n1/decode", site, end=NOW - 1, key_id="same")
    with pytest.raises(CertificateExpired):
        await authority.validator().validate(old.data(kv_name()))
    renewed = authority.issue("/home/n1/decode", site, key=old.key, key_id="same")
    proof = await authority.validator().validate(old.data(kv_name()))
    assert proof.certificate_name == renewed.certificate.name


async def test_another_key_is_no_renewal(authority: Authority) -> None:
    site = authority.issue("/home", authority.root)
    old = authority.issue("/home/n1/decode", site, end=NOW - 1, key_id="same")
    authority.issue("/home/n1/decode", site, key_id="same")
    with pytest.raises(CertificateExpired):
        await authority.validator().validate(old.data(kv_name()))


async def test_the_cache_forgets_after_its_time(authority: Authority) -> None:
    _, decode = site_chain(authority)
    validator = authority.validator(cache_s=60.0)
    await validator.validate(decode.data(kv_name()))
    authority.now += 61
    assert validator.try_validate(decode.data(kv_name())) is None
    await validator.validate(decode.data(kv_name()))
    assert len(authority.asked) == 4


async def test_the_cache_is_bounded(authority: Authority) -> None:
    validator = authority.validator(max_cached=3)
    holders = [authority.issue(f"/home/n{number}/decode", authority.root) for number in range(6)]
    for holder in holders:
        await validator.validate(holder.data(kv_name()))
    known = [validator.try_validate(holder.data(kv_name())) is not None for holder in holders]
    assert known == [False, False, False, True, True, True]
