"""The producer's store: what answers which Interest, what goes first when memory runs out."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.ndn import packet
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.wire.manifest import ObjectPackets, build_object


def made(uri: str, version: int = 1, size: int = 9000) -> ObjectPackets:
    return build_object(ndn.from_uri(uri), version, bytes(size), packet.encode_data)


LIKE_A_DIGEST = "/o%01%20" + "x" * 32
"""A name whose last bytes are those of an implicit digest, within a longer component."""


@pytest.mark.parametrize("uri", ["/o", LIKE_A_DIGEST])
def test_what_answers_what(uri: str) -> None:
    store, packets = ObjectStore(1 << 20), made(uri)
    store.put(packets)
    discovery = packets.base + ndn.METADATA
    assert store.find(discovery, can_be_prefix=True) == packets.metadata
    assert store.find(discovery, can_be_prefix=False) is None
    assert store.find(packets.metadata_name, can_be_prefix=False) == packets.metadata
    for name, wire in packets.packets.items():
        assert store.find(name, can_be_prefix=False) == wire
        exact = name + ndn.implicit_digest(hashlib.sha256(wire).digest())
        assert store.find(exact, can_be_prefix=False) == wire
        assert store.find(name + ndn.implicit_digest(bytes(32)), can_be_prefix=False) is None
    for prefix in (packets.base, packets.manifest.name):  # who knows no RDR gets the first segment
        assert store.find(prefix, can_be_prefix=True) == packets.packets[packets.manifest.segment_name(0)]
        assert store.find(prefix, can_be_prefix=False) is None
    for other in (packets.manifest.segment_name(2), packets.base + ndn.version(2), ndn.from_uri("/p"), ndn.ROOT):
        assert store.find(other, can_be_prefix=True) is None


def test_a_newer_version_replaces_the_older_one() -> None:
    store, old, new = ObjectStore(1 << 20), made("/o", 1), made("/o", 2)
    store.put(old)
    store.put(new)
    assert store.find(old.manifest.segment_name(0), can_be_prefix=False) is None
    assert store.find(new.base + ndn.METADATA, can_be_prefix=True) == new.metadata
    assert store.used_bytes == new.wire_bytes and len(store) == 1


def test_what_is_asked_for_stays_and_pinned_objects_too() -> None:
    size = made("/o0").wire_bytes
    store = ObjectStore(3 * size)
    for number in range(3):
        store.put(made(f"/o{number}"), pinned=number == 0)
    store.find(ndn.from_uri("/o1") + ndn.METADATA, can_be_prefix=True)
    store.put(made("/o3"))
    assert [ndn.from_uri(f"/o{n}") in store for n in range(4)] == [True, True, False, True] and store.evicted == 1


steps_of_a_store = st.tuples(st.integers(0, 6), st.sampled_from([0, 5000, 20_000]), st.booleans(), st.booleans())


@settings(max_examples=60)
@given(st.lists(steps_of_a_store, max_size=30), st.integers(10_000, 90_000))
def test_bytes_are_counted_and_bounded(steps: list[tuple[int, int, bool, bool]], capacity: int) -> None:
    """Only pinned objects, and the one just put, may exceed the bound."""
    store, held, pins = ObjectStore(capacity), {}, set()
    for version, (number, size, pinned, remove) in enumerate(steps):
        packets = made(f"/o{number}", version, size)
        if remove:
            store.remove(packets.base)
        else:
            store.put(packets, pinned=pinned)
            held[packets.base] = packets
            pins.discard(packets.base)
            pins.update({packets.base} if pinned else ())
        kept = [held[base] for base in held if base in store]
        assert store.used_bytes == sum(one.wire_bytes for one in kept)
        loose = sum(one.wire_bytes for one in kept if one.base not in pins and one.base != packets.base)
        assert store.used_bytes <= capacity or loose == 0 or remove
        assert len(store) == len(kept)
        names = {name for one in kept for name in one.packets}
        assert all(store.find(name, can_be_prefix=False) is not None for name in names)
