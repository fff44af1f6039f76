"""Objects on disk: what comes out is what went in, or nothing; against a model in memory, over restarts."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import ConfigError, StoreFull
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import encode_data
from ndn_infer.storage.disk import DiskStore
from ndn_infer.storage.policy import Policy, policies_of, policy_of
from ndn_infer.storage.tiered import TieredStore
from ndn_infer.wire.manifest import ObjectPackets, build_object

BIG = 1 << 30


def made(name: str, size: int, version: int = 1) -> ObjectPackets:
    content = random.Random(f"{name} {version}").randbytes(size)
    return build_object(
        ndn.from_uri(name), version, content, lambda name, content, **more: encode_data(name, content, **more)
    )


def answers(store: DiskStore | TieredStore, packets: ObjectPackets) -> list[bytes | None]:
    names = [packets.metadata_name, *packets.packets]
    look = store.packet if isinstance(store, DiskStore) else lambda name: store.find(name, can_be_prefix=False)
    return [look(name) for name in names]


def wires(packets: ObjectPackets) -> list[bytes]:
    return [packets.metadata, *packets.packets.values()]


@pytest.mark.parametrize("size", [0, 100, 4097, 8000, 500_000, 1_700_000])
def test_every_packet_is_there_after_a_restart(tmp_path: Path, size: int) -> None:
    packets = made("/a/b", size)
    store = DiskStore(tmp_path / "s", BIG)
    store.put(packets)
    assert answers(store, packets) == wires(packets), "before it is written"
    store.flush().result()
    assert answers(store, packets) == wires(packets)
    store.close()
    store = DiskStore(tmp_path / "s", BIG)
    assert answers(store, packets) == wires(packets)
    assert store.metadata(packets.base) == packets.metadata
    assert store.packet(packets.manifest.segment_name(packets.manifest.segments)) is None
    assert store.packet(packets.base + ndn.version(2) + ndn.segment(0)) is None
    store.close()


operations = st.lists(
    st.tuples(
        st.sampled_from(["put", "pin", "remove", "flush", "restart", "read"]), st.integers(0, 5), st.integers(0, 3)
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations)
def test_it_does_what_a_dictionary_does(tmp_path: Path, steps: list[tuple[str, int, int]]) -> None:
    shutil.rmtree(tmp_path, ignore_errors=True)
    store, model, version = DiskStore(tmp_path / "s", BIG), {}, 0
    for what, which, size in steps:
        name = f"/o/{which}"
        if what in ("put", "pin"):
            version += 1
            model[name] = made(name, (0, 5000, 20_000, 600_000)[size], version)
            future = store.put(model[name], pinned=what == "pin")
            if future is not None:
                future.result()
        elif what == "remove":
            store.remove(ndn.from_uri(name))
            model.pop(name, None)
        elif what == "flush":
            store.flush().result()
        elif what == "restart":
            store.close()
            store = DiskStore(tmp_path / "s", BIG)
        for known, packets in model.items():
            assert answers(store, packets) == wires(packets), known
        assert len(store) == len(model) and store.bases() == sorted(map(ndn.from_uri, model))
    store.close()


def test_the_least_recently_used_go_and_pinned_ones_never(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "s", 1_000_000)
    objects = [made(f"/o/{number}", 200_000) for number in range(8)]
    store.put(objects[0], pinned=True)
    for packets in objects[1:4]:
        store.put(packets)
        store.flush().result()
    assert store.packet(objects[1].manifest.segment_name(0))  # used
    for packets in objects[4:6]:
        store.put(packets)
        store.flush().result()
    kept = [number for number, packets in enumerate(objects) if packets.base in store]
    assert kept == [0, 1, 4, 5]
    assert store.used_bytes <= 1_000_000 and store.evicted == 2
    store.close()


def test_what_does_not_fit_is_refused_and_nothing_else_suffers(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "s", 500_000)
    first = made("/pinned", 300_000)
    future = store.put(first, pinned=True)
    assert future is not None
    future.result()
    for size in (300_000, 600_000):
        refused = store.put(made("/more", size), pinned=True)
        assert refused is not None
        with pytest.raises(StoreFull):
            refused.result()
    store.put(made("/unpinned", 300_000))
    store.flush().result()
    assert store.unwritten == 3
    assert answers(store, first) == wires(first)
    store.close()


def test_a_full_disk_is_an_error_and_no_damage(tmp_path: Path) -> None:
    """SQLite's own page limit stands for the disk: it fails at the same place with the same kind of error."""
    store = DiskStore(tmp_path / "s", BIG)
    first = made("/first", 400_000)
    future = store.put(first, pinned=True)
    assert future is not None
    future.result()
    store._writer.submit(lambda: store._file._connection().execute("PRAGMA max_page_count=40")).result()
    refused = store.put(made("/second", 2_000_000), pinned=True)
    assert refused is not None
    with pytest.raises(StoreFull, match="full"):
        refused.result()
    assert answers(store, first) == wires(first)
    store.close()
    store = DiskStore(tmp_path / "s", BIG)
    assert answers(store, first) == wires(first) and len(store) == 1
    store.close()


def test_a_store_that_cannot_be_written_is_answered_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made("/first", 100_000)
    store = DiskStore(tmp_path / "s", BIG)
    store.put(first)
    store.close()
    real = sqlite3.connect

    def refuse(path: object, **options: object) -> sqlite3.Connection:  # root may write anything, so files will not do
        if not str(path).startswith("file:"):
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return real(path, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", refuse)
    store = DiskStore(tmp_path / "s", BIG)
    assert store.read_only and answers(store, first) == wires(first)
    refused = store.put(made("/second", 1000), pinned=True)
    assert refused is not None
    with pytest.raises(StoreFull):
        refused.result()
    store.close()
    with pytest.raises(ConfigError):
        DiskStore(tmp_path / "none" / "s", BIG)


@pytest.mark.parametrize("junk", [b"no database at all " * 1000, b""])
def test_another_file_is_put_aside(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "s").write_bytes(junk)
    store, packets = DiskStore(tmp_path / "s", BIG), made("/a", 9000)
    store.put(packets)
    store.close()
    store = DiskStore(tmp_path / "s", BIG)
    assert answers(store, packets) == wires(packets)
    store.close()
    if junk:
        assert (tmp_path / "s.damaged").read_bytes() == junk


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**30), st.integers(1, 255))
def test_a_damaged_byte_is_never_answered(tmp_path: Path, where: int, change: int) -> None:
    path, damaged = tmp_path / "whole", tmp_path / f"damaged-{where}-{change}"
    objects = [made("/a", 60_000), made("/b", 3000), made("/c", 1_700_000)]
    if not path.exists():
        store = DiskStore(path, BIG)
        for packets in objects:
            store.put(packets)
        store.close()
    content = bytearray(path.read_bytes())
    content[where % len(content)] ^= change
    damaged.write_bytes(content)
    try:
        store = DiskStore(damaged, BIG)
    except ConfigError:
        return
    for packets in objects:
        for got, wire in zip(answers(store, packets), wires(packets), strict=True):
            assert got in (None, wire)
    store.close()
    damaged.unlink(missing_ok=True)


def test_policies(tmp_path: Path) -> None:
    policies = policies_of(["/a=ttl:10", "/a/keep=pin", "/b=share:0.36+ttl:100"])
    policies.sort(key=lambda policy: -len(policy.prefix))
    assert policy_of(policies, ndn.from_uri("/a/keep/x")).pin
    assert policy_of(policies, ndn.from_uri("/a/x")).ttl_s == 10
    assert policy_of(policies, ndn.from_uri("/c")) == Policy()
    now = [1000.0]
    store = DiskStore(tmp_path / "s", 1_000_000, policies=policies, wall=lambda: now[0])
    for number in range(4):
        store.put(made(f"/b/{number}", 90_000))
        store.put(made(f"/c/{number}", 90_000))
    old, kept = made("/a/x", 1000), made("/a/keep/x", 1000)
    store.put(old)
    store.put(kept)
    store.flush().result()
    now[0] += 11
    assert old.base not in store and kept.base in store and store.pinned(kept.base)
    for number in range(4, 8):
        store.put(made(f"/c/{number}", 90_000))
    store.flush().result()
    held = [ndn.to_uri(base) for base in store.bases()]
    assert sum(uri.startswith("/b") for uri in held) == 3, "the share of /b, no more and no less"
    store.close()


def test_two_tiers_answer_as_one(tmp_path: Path) -> None:
    objects = [made(f"/o/{number}", 300_000) for number in range(5)]
    store = TieredStore(700_000, DiskStore(tmp_path / "s", BIG))
    for packets in objects:
        store.put(packets)
    assert store.left == store.evicted >= 2, "memory holds two"
    assert [store.in_memory(packets.base) for packets in objects] == [False] * 3 + [True] * 2
    for packets in objects:
        assert answers(store, packets) == wires(packets)
        assert packets.base in store
        assert store.find(packets.base + METADATA, can_be_prefix=True) == packets.metadata
        first: Name = packets.manifest.segment_name(0)
        assert store.find(packets.base, can_be_prefix=True) == packets.packets[first]
        assert store.find(packets.manifest.name, can_be_prefix=True) == packets.packets[first]
        digest = hashlib.sha256(packets.packets[first]).digest()
        assert store.find(first + ndn.implicit_digest(digest), can_be_prefix=False) == packets.packets[first]
        assert store.find(first + ndn.implicit_digest(bytes(32)), can_be_prefix=False) is None
        assert store.segment(first) == packets.packets[first]
        assert store.manifest(packets.base) is not None
    store.remove(objects[0].base)
    assert objects[0].base not in store and answers(store, objects[0]) == [None] * len(wires(objects[0]))
    store.close()
    store = TieredStore(700_000, DiskStore(tmp_path / "s", BIG))
    assert answers(store, objects[4]) == wires(objects[4])
    store.close()


def test_the_file_stays_at_its_bound(tmp_path: Path) -> None:
    """Freed pages are used again, whatever the sizes; the log beside the file is gone after closing."""
    rng, bound = random.Random(3), 4_000_000
    store = DiskStore(tmp_path / "s", bound)
    for number in range(200):
        store.put(made(f"/o/{number}", rng.choice((10, 3000, 8000, 9000, 16_000, 70_000, 300_000, 900_000))))
        store.flush().result()
        assert store.used_bytes <= bound
    assert store.unwritten == 0 and store.evicted > 50
    store.close()
    assert os.path.getsize(tmp_path / "s") <= bound + 64 * 16384
    assert not os.path.exists(tmp_path / "s-wal")


def test_a_file_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "s", BIG)
    with pytest.raises(ConfigError, match="in use"):
        DiskStore(tmp_path / "s", BIG)
    store.close()
    DiskStore(tmp_path / "s", BIG).close()


def test_what_is_removed_or_replaced_while_it_is_written(tmp_path: Path) -> None:
    """The writer's thread is held up, so that everything happens before and during writing."""
    store = DiskStore(tmp_path / "s", BIG)
    gate = threading.Event()
    store._writer.submit(gate.wait)
    gone, first, second = made("/gone", 9000), made("/kept", 9000, 1), made("/kept", 20_000, 2)
    store.put(gone)
    acknowledged = store.put(first, pinned=True)
    store.put(second)
    store.remove(gone.base)
    assert gone.base not in store and answers(store, second) == wires(second)
    gate.set()
    assert acknowledged is not None
    acknowledged.result()
    store.close()
    store = DiskStore(tmp_path / "s", BIG)
    assert gone.base not in store and answers(store, second) == wires(second) and len(store) == 1
    store.close()


def test_removed_in_the_middle_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, packets = DiskStore(tmp_path / "s", BIG), made("/a", 9000)
    write = store._file.write

    def write_then_remove(*arguments: Any, **options: Any) -> int:
        number = write(*arguments, **options)
        store.remove(packets.base)
        return number

    monkeypatch.setattr(store._file, "write", write_then_remove)
    store.put(packets)
    store.flush().result()
    assert packets.base not in store and store.used_bytes == 0
    store.close()
    store = DiskStore(tmp_path / "s", BIG)
    assert len(store) == 0
    store.close()


def test_publishing_goes_on_in_memory_when_the_disk_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    disk = DiskStore(tmp_path / "s", 400_000)
    store = TieredStore(10_000_000, disk)
    first, pinned, other = made("/first", 250_000), made("/pinned", 250_000), made("/other", 250_000)
    store.put(first, pinned=True)
    store.put(pinned, pinned=True)
    store.put(other)
    assert "memory only" in caplog.text
    for packets in (first, pinned, other):
        assert answers(store, packets) == wires(packets)
    assert pinned.base not in disk and first.base in disk
    store.close()


def test_what_is_mortal(tmp_path: Path) -> None:
    now = [1000.0]
    disk = DiskStore(tmp_path / "s", BIG, policies=policies_of(["/mortal=ttl:10"]), wall=lambda: now[0])
    store = TieredStore(BIG, disk)
    mortal, lasting = made("/mortal/a", 9000), made("/lasting", 9000)
    store.put(mortal)
    store.put(lasting)
    disk.flush().result()
    assert answers(store, mortal) == wires(mortal)
    now[0] += 11
    assert answers(store, mortal) == [None] * len(wires(mortal)) and mortal.base not in store
    assert answers(store, lasting) == wires(lasting)
    store.close()


@pytest.mark.parametrize("size", [10, 9000, 1_700_000])
def test_a_whole_object_comes_back(tmp_path: Path, size: int) -> None:
    packets = made("/a", size)
    store = TieredStore(0, DiskStore(tmp_path / "s", BIG))
    store.put(packets, pinned=True)
    store.close()
    store = TieredStore(0, DiskStore(tmp_path / "s", BIG))
    found = store.get(packets.base)
    assert found is not None and found.metadata_name == packets.metadata_name
    assert (found.metadata, found.packets) == (packets.metadata, packets.packets)
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
def test_a_file_of_somebody_else() -> None:
    """Really not writable: what is there is answered, what is new is refused, nothing is damaged."""
    folder = Path(tempfile.mkdtemp(prefix="ndn-infer-t-"))
    first = made("/first", 100_000)
    try:
        store = DiskStore(folder / "s", BIG)
        store.put(first)
        store.close()
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.chmod(0o644)
        before = (folder / "s").read_bytes()
        os.seteuid(65534)
        try:
            store = DiskStore(folder / "s", BIG)
            assert store.read_only and answers(store, first) == wires(first)
            refused = store.put(made("/second", 1000), pinned=True)
            assert refused is not None
            with pytest.raises(StoreFull, match="cannot be written"):
                refused.result()
            store.close()
            with pytest.raises(ConfigError, match="cannot be used"):
                DiskStore(folder / "other", BIG)
        finally:
            os.seteuid(0)
        assert (folder / "s").read_bytes() == before
    finally:
        shutil.rmtree(folder)
