"""Private calls, and keys of a tenant domain for its members: who can read them, and who cannot."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn, records
from ndn_infer.errors import BadRecord, KeyNotAllowed, MissingKey, NdnInferError
from ndn_infer.namespace import Call, CallClass, DomainKey, function_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.security.domain_keys import (
    DecryptionKey,
    DomainKeyRecord,
    DomainSecret,
    EncryptionKeyRecord,
    Epoch,
    check,
    domain_id,
    read_encryption_key,
    unwrap,
    wrap,
)
from ndn_infer.security.domains import DomainEpoch, SealBroken, SealedRequest, TenantDomain, find_epoch, parse_request
from tests.unit.domain_kit import BASE, EPOCH, ID, MODEL, NET, OTHER, OWNER, SALT, SECRET, USER, block_name

FUNCTION = function_prefix(NET, "model", MODEL, "generate")


def ask(salt: bytes = SALT, caller: Name = USER, request: bytes = b"request") -> tuple[bytes, str]:
    wire = EPOCH.seal_request(FUNCTION, caller, request, salt)
    return wire, hashlib.sha256(wire).hexdigest()


@given(st.binary(max_size=600), st.binary(min_size=16, max_size=16))
def test_a_private_call(request: bytes, salt: bytes) -> None:
    wire, digest = ask(salt, request=request)
    sealed = parse_request(wire)
    assert find_epoch([TenantDomain(ID, {3: SECRET})], sealed.domain).open_request(FUNCTION, USER, sealed) == request
    call = Call("model", MODEL, "generate", CallClass.PRIVATE, digest).to_name(NET) + ndn.parameters_digest(bytes(32))
    assert EPOCH.open_answer(call, EPOCH.seal_answer(call, b"answer")) == b"answer"
    segment = call + ndn.version(1) + ndn.segment(0)
    assert EPOCH.open_event(segment, EPOCH.seal_event(segment, b"event")) == b"event"


def test_equal_requests_are_not_told_from_others() -> None:
    first, second, third = ask(b"a" * 16), ask(b"b" * 16), ask(b"b" * 16, request=b"REQUEST")
    assert len({first[1], second[1], third[1]}) == 3
    assert len(first[0]) == len(second[0]) == len(third[0])


def test_requests_of_others_and_for_others_are_refused() -> None:
    sealed = parse_request(ask()[0])
    with pytest.raises(SealBroken):
        EPOCH.open_request(FUNCTION, OTHER, sealed)
    with pytest.raises(SealBroken):
        EPOCH.open_request(function_prefix(NET, "model", MODEL, "prefill"), USER, sealed)
    with pytest.raises(SealBroken, match="domain"):
        EPOCH.open_request(FUNCTION, USER, SealedRequest(f"{ID}.4", sealed.sealed))
    with pytest.raises(SealBroken):
        EPOCH.open_request(FUNCTION, USER, SealedRequest(EPOCH.label, EPOCH.seal(FUNCTION, b"x")))
    with pytest.raises(ValueError, match="salt"):
        ask(b"short")


def test_an_answer_to_one_question_is_none_to_another() -> None:
    name = FUNCTION + ndn.generic("private")
    answer = EPOCH.seal_answer(name + ndn.parameters_digest(bytes(32)), b"yes")
    with pytest.raises(SealBroken):
        EPOCH.open_answer(name + ndn.parameters_digest(b"\1" * 32), answer)
    event = EPOCH.seal_event(name + ndn.version(1) + ndn.segment(0), b"one")
    with pytest.raises(SealBroken):
        EPOCH.open_event(name + ndn.version(1) + ndn.segment(1), event)


# ---------------------------------------------------------------- keys for members

MEMBERS = [DecryptionKey.generate() for _ in range(3)]
STRANGER = DecryptionKey.generate()
ID_OF_OWNER = domain_id(OWNER, SALT)
KEY_NAME = DomainKey(ID_OF_OWNER, "1").to_name(NET)


def wrapped(members: list[DecryptionKey], epoch: int = 1, key: bytes = SECRET) -> tuple[Name, bytes]:
    base = DomainKey(ID_OF_OWNER, str(epoch)).to_name(NET)
    return base, wrap(base, OWNER, Epoch(SALT, epoch), DomainSecret(key, "acme"), [item.public for item in members])


def test_every_member_opens_it_and_nobody_else() -> None:
    base, content = wrapped(MEMBERS)
    for member in MEMBERS:
        record, secret = unwrap(NET, base, content, OWNER, member)
        assert (record.epoch, secret) == (1, DomainSecret(SECRET, "acme"))
    with pytest.raises(MissingKey, match="nothing for this machine"):
        unwrap(NET, base, content, OWNER, STRANGER)


def test_entries_are_those_of_the_definition() -> None:
    """ECDH, then HKDF of RFC 5869 over all public values: a tag to find the entry by, and the key that opens it."""
    base, content = wrapped(MEMBERS[:1])
    record = records.decode(DomainKeyRecord, content)
    info = b"ndn-infer domain member v1\0" + record.ephemeral + MEMBERS[0].public + base
    extracted = hmac.digest(bytes(32), MEMBERS[0].shared(record.ephemeral), "sha256")
    first = hmac.digest(extracted, info + b"\x01", "sha256")
    made = first + hmac.digest(extracted, first + info + b"\x02", "sha256")
    (entry,) = (item for item in record.entries if item.startswith(made[:16]))
    opened = AESGCM(made[16:48]).decrypt(bytes(12), entry[16:], base)
    assert opened == (records.encode(DomainSecret(SECRET, "acme")) + b"\x80").ljust(128, b"\0")


def test_who_was_removed_cannot_open_the_new_epoch_and_keeps_the_old() -> None:
    gone, *left = MEMBERS
    first, second = wrapped(MEMBERS), wrapped(left, 2, bytes(32))
    assert unwrap(NET, *first, OWNER, gone)[1].key == SECRET
    with pytest.raises(MissingKey):
        unwrap(NET, *second, OWNER, gone)
    assert unwrap(NET, *second, OWNER, left[0])[1].key == bytes(32)
    kept, new = DomainEpoch(ID_OF_OWNER, 1, SECRET), DomainEpoch(ID_OF_OWNER, 2, bytes(32))
    base = block_name(new.label, bytes(32))
    with pytest.raises(SealBroken):
        kept.open(base, new.seal(base, b"x"))
    with pytest.raises(SealBroken):
        DomainEpoch(ID_OF_OWNER, 2, SECRET).open(base, new.seal(base, b"x"))


def test_a_record_does_not_say_who_or_how_many() -> None:
    sizes = set()
    for members in ([], MEMBERS[:1], MEMBERS, [*MEMBERS, STRANGER, *MEMBERS]):
        _, content = wrapped(members)
        sizes.add(len(content))
        assert not any(member.public in content for member in MEMBERS)
        assert b"acme" not in content
    assert len(sizes) == 1
    assert wrapped(MEMBERS)[1] != wrapped(MEMBERS)[1]
    record = records.decode(DomainKeyRecord, wrapped([DecryptionKey.generate() for _ in range(9)])[1])
    assert len(record.entries) == 16 == len(set(record.entries))


def test_the_longest_name() -> None:
    secret = DomainSecret(SECRET, "n" * 64)
    content = wrap(KEY_NAME, OWNER, Epoch(SALT, 1), secret, [MEMBERS[0].public])
    assert unwrap(NET, KEY_NAME, content, OWNER, MEMBERS[0])[1] == secret
    for bad in ("n" * 65, "\u00e9" * 50):
        with pytest.raises(BadRecord):
            wrap(KEY_NAME, OWNER, Epoch(SALT, 1), DomainSecret(SECRET, bad), [])


def test_only_the_owner_signs_keys_of_its_domain() -> None:
    """Another owner, whom the schema would let sign the name, gets no domain but its own."""
    base, content = wrapped(MEMBERS)
    usurper = NET + ndn.from_uri("/lab/m1/domain")
    with pytest.raises(KeyNotAllowed):
        unwrap(NET, base, content, usurper, MEMBERS[0])
    forged = wrap(base, usurper, Epoch(SALT, 1), DomainSecret(SECRET, "acme"), [MEMBERS[0].public])
    with pytest.raises(KeyNotAllowed):
        unwrap(NET, base, forged, usurper, MEMBERS[0])


def test_a_record_under_another_name_is_refused() -> None:
    _, content = wrapped(MEMBERS)
    with pytest.raises(BadRecord, match="another epoch"):
        unwrap(NET, DomainKey(ID_OF_OWNER, "2").to_name(NET), content, OWNER, MEMBERS[0])
    with pytest.raises(KeyNotAllowed):
        unwrap(NET, DomainKey(ID, "1").to_name(NET), content, OWNER, MEMBERS[0])
    with pytest.raises(BadRecord, match="not the name of a domain key"):
        unwrap(NET, BASE, content, OWNER, MEMBERS[0])


def test_every_flipped_bit_of_a_record_is_refused_or_changes_nothing_for_us() -> None:
    """What a member takes out of a damaged record is the key, or an error: never another key."""
    base, content = wrapped(MEMBERS[:1])
    opened = 0
    for position in range(len(content) * 8):
        altered = bytearray(content)
        altered[position // 8] ^= 1 << position % 8
        try:
            opened += unwrap(NET, base, bytes(altered), OWNER, MEMBERS[0])[1].key == SECRET
        except NdnInferError:
            continue
    assert opened == 8 * 7 * 160  # the entries that are for others


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_fuzz_bytes(content: bytes) -> None:
    for parser in PARSERS:
        with pytest.raises(NdnInferError):
            parser(content)


@settings(max_examples=200)
@given(st.data())
def test_fuzz_records(data: st.DataObject) -> None:
    """Well-formed records with wrong values in them."""
    record = DomainKeyRecord(
        owner=data.draw(st.sampled_from([ndn.to_uri(OWNER), "", "/", "no uri", "/%zz"]) | st.text(max_size=20)),
        salt=data.draw(st.just(SALT) | st.binary(max_size=20)),
        epoch=data.draw(st.just(1) | st.integers(-(2**63), 2**64 - 1)),
        ephemeral=data.draw(st.just(STRANGER.public) | st.binary(max_size=70) | st.binary(min_size=65, max_size=65)),
        entries=tuple(data.draw(st.lists(st.binary(min_size=160, max_size=160) | st.binary(max_size=9), max_size=3))),
    )
    with pytest.raises(NdnInferError):
        unwrap(NET, KEY_NAME, records.encode(record), OWNER, MEMBERS[0])


@given(st.binary(max_size=80) | st.binary(min_size=65, max_size=65).map(lambda tail: b"\x04" + tail[1:]))
def test_fuzz_points(point: bytes) -> None:
    with pytest.raises(BadRecord):
        read_encryption_key(records.encode(EncryptionKeyRecord(point)))
    with pytest.raises(BadRecord):
        MEMBERS[0].shared(point)


PARSERS: list[Callable[[bytes], object]] = [
    parse_request,
    read_encryption_key,
    lambda content: check(NET, KEY_NAME, content, OWNER),
    lambda content: unwrap(NET, KEY_NAME, content, OWNER, MEMBERS[0]),
    lambda content: EPOCH.open(BASE, content),
]


def test_points_that_are_no_public_keys() -> None:
    compressed = b"\x02" + MEMBERS[0].public[1:33]
    for point in (b"\0", bytes(65), b"\x04" + bytes(64), compressed, MEMBERS[0].public[:-1] + b"\0"):
        with pytest.raises(BadRecord):
            read_encryption_key(records.encode(EncryptionKeyRecord(point)))
    assert read_encryption_key(records.encode(EncryptionKeyRecord(MEMBERS[0].public))) == MEMBERS[0].public


def test_encryption_keys_in_files() -> None:
    again = DecryptionKey.from_pem(MEMBERS[0].to_pem())
    assert again.public == MEMBERS[0].public
    assert again.shared(STRANGER.public) == STRANGER.shared(again.public)
    assert repr(again) == "EncryptionKey()"
