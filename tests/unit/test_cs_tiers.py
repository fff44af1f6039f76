"""Content Store: protected classes, counters by prefix, the second tier on disk."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.errors import ConfigError
from ndn_infer.forwarder.core.content_store import ENTRY_OVERHEAD_BYTES, PROTECTED_SHARE, ContentStore
from ndn_infer.forwarder.core.cs_classes import CsClasses
from ndn_infer.forwarder.core.parsing import parse_data
from ndn_infer.forwarder.shell.cs_disk import BATCH_PACKETS, DiskTier, NameFilter
from ndn_infer.ndn.name import Name
from tests.forwarder_world import data

KEPT = ndn.from_uri("/keep")


class Clock:
    """Two clocks that can be set apart: a restarted process has another monotonic clock."""

    def __init__(self) -> None:
        self.wall_s = 1_800_000_000.0
        self.mono_s = 100.0

    def pass_(self, seconds: float) -> None:
        self.wall_s += seconds
        self.mono_s += seconds


def put(store: ContentStore, uri: str, *, fresh_ms: int = 0, now: float = 0.0, size: int = 10) -> bytes:
    wire = data(uri, fresh_ms=fresh_ms, content=b"x" * size)
    store.insert(ndn.from_uri(uri), wire, fresh_ms, now)
    return wire


def get(store: ContentStore, uri: str, *, prefix: bool = False, fresh: bool = False, now: float = 0.0) -> bytes | None:
    return store.find(ndn.from_uri(uri), can_be_prefix=prefix, must_be_fresh=fresh, now=now)


# ---------------------------------------------------------------- classes


def test_protected_prefixes_are_evicted_last() -> None:
    store = ContentStore(10, 1 << 20, classes=CsClasses(protected=[KEPT]))
    put(store, "/keep/a")
    for index in range(30):
        put(store, f"/bulk/{index}")
    assert get(store, "/keep/a") is not None
    assert get(store, "/bulk/20") is None and get(store, "/bulk/29") is not None
    assert len(store) == 10


def test_protected_prefixes_cannot_take_everything() -> None:
    store = ContentStore(10, 1 << 20, classes=CsClasses(protected=[KEPT]))
    for index in range(30):
        put(store, f"/keep/{index}")
    for index in range(5):
        put(store, f"/bulk/{index}")
    kept = [index for index in range(30) if get(store, f"/keep/{index}") is not None]
    assert len(kept) == int(PROTECTED_SHARE * 10) and kept == list(range(22, 30))
    assert get(store, "/bulk/4") is not None


def test_the_share_holds_for_bytes_too() -> None:
    size = 1000 + ENTRY_OVERHEAD_BYTES
    store = ContentStore(1000, 20 * size, classes=CsClasses(protected=[KEPT]))
    for index in range(40):
        put(store, f"/keep/{index}", size=900)
    for index in range(4):
        put(store, f"/bulk/{index}", size=900)
    protected, plain = store.classes.of(KEPT), store.classes.root
    assert protected.used_bytes <= PROTECTED_SHARE * store.capacity_bytes + size
    assert plain.packets == 4 and store.used_bytes == protected.used_bytes + plain.used_bytes <= store.capacity_bytes


def test_counters_by_prefix_add_up() -> None:
    store = ContentStore(3, 1 << 20, classes=CsClasses(protected=[KEPT], counted=[ndn.from_uri("/bulk")]))
    for uri in ("/keep/a", "/bulk/1", "/bulk/2", "/bulk/3", "/other"):
        put(store, uri)
    for uri in ("/keep/a", "/bulk/1", "/bulk/3", "/nothing"):
        get(store, uri)
    counts = {ndn.to_uri(kind.prefix): kind for kind in store.classes.all()}
    assert (counts["/keep"].hits, counts["/bulk"].hits, counts["/bulk"].misses, counts["/"].misses) == (1, 1, 1, 1)
    assert (counts["/bulk"].inserted, counts["/bulk"].evicted, counts["/bulk"].packets) == (3, 2, 1)
    assert (store.hits, store.misses, store.evicted) == (2, 2, 2)
    assert sum(kind.packets for kind in counts.values()) == len(store) == 3


def test_other_classes_apply_to_what_is_there() -> None:
    store = ContentStore(4, 1 << 20)
    for uri in ("/keep/a", "/bulk/1", "/bulk/2"):
        put(store, uri)
    get(store, "/keep/a")
    store.reclassify(CsClasses(protected=[KEPT]))
    for index in range(10):
        put(store, f"/more/{index}")
    assert get(store, "/keep/a") is not None and len(store) == 4
    store.reclassify(CsClasses())
    for index in range(10):
        put(store, f"/again/{index}")
    assert get(store, "/keep/a") is None
    assert store.used_bytes == store.classes.root.used_bytes and store.classes.root.packets == 4


# ---------------------------------------------------------------- disk


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tier(tmp_path: Path, clock: Clock, capacity_bytes: int = 1 << 20) -> DiskTier:
    return DiskTier(tmp_path / "cs.sqlite", capacity_bytes, wall=lambda: clock.wall_s, clock=lambda: clock.mono_s)


@pytest.fixture
def disk(tmp_path: Path, clock: Clock) -> Iterator[DiskTier]:
    opened = tier(tmp_path, clock)
    yield opened
    opened.close()


def keep(disk: DiskTier, uri: str, *, fresh_until: float = 0.0, fresh_ms: int = 0) -> Name:
    name = ndn.from_uri(uri)
    disk.keep(name, data(uri, fresh_ms=fresh_ms), fresh_until)
    return name


def found(disk: DiskTier, name: Name, *, prefix: bool = False, fresh: bool = False, now: float = 100.0) -> Name | None:
    result = disk.find(name, can_be_prefix=prefix, must_be_fresh=fresh, now=now)
    if result is None:
        return None
    assert parse_data(result[1])[0] == result[0]
    return result[0]


def test_what_memory_evicts_is_found_on_disk(disk: DiskTier) -> None:
    store = ContentStore(5, 1 << 20, second=disk)
    wires = {index: put(store, f"/a/{index}") for index in range(400)}
    assert len(store) == 5 and disk.written >= 256
    for index in (0, 200, 399):
        assert get(store, f"/a/{index}") == wires[index]
    assert get(store, "/a/400") is None
    assert store.classes.root.disk_hits == 2 and store.hits == 3
    assert get(store, "/a/0") == wires[0] and store.classes.root.disk_hits == 2, "it is in memory again"


@pytest.mark.parametrize("flushed", [False, True])
def test_names_prefixes_digests_and_freshness(disk: DiskTier, clock: Clock, flushed: bool) -> None:
    name = keep(disk, "/a/b", fresh_until=110.0, fresh_ms=10_000)
    stale = keep(disk, "/a/c")
    if flushed:
        disk.flush()
    assert found(disk, name) == name and found(disk, name, fresh=True) == name
    assert found(disk, stale) == stale and found(disk, stale, fresh=True) is None
    assert found(disk, ndn.from_uri("/a")) is None
    assert found(disk, ndn.from_uri("/a"), prefix=True) == name
    assert found(disk, b"", prefix=True) == name
    wire = data("/a/b", fresh_ms=10_000)
    digest = hashlib.sha256(wire).digest()
    assert found(disk, name + ndn.implicit_digest(digest)) == name
    assert found(disk, name + ndn.implicit_digest(digest[::-1])) is None
    clock.pass_(11)
    assert found(disk, name, fresh=True, now=111.0) is None and found(disk, name) == name


def test_a_restart_keeps_packets_and_their_freshness(tmp_path: Path, clock: Clock) -> None:
    first = tier(tmp_path, clock)
    store = ContentStore(100, 1 << 20, second=first)
    put(store, "/a/b", fresh_ms=10_000, now=clock.mono_s)
    store.spill()
    first.close()
    clock.wall_s, clock.mono_s = clock.wall_s + 4, 7.0
    again = ContentStore(100, 1 << 20, second=tier(tmp_path, clock))
    assert get(again, "/a/b", fresh=True, now=7.0) is not None
    assert get(again, "/a/b", fresh=True, now=12.9) is not None
    assert get(again, "/a/b", fresh=True, now=13.1) is None
    clock.wall_s -= 1_000_000
    third = tier(tmp_path / "other", clock)
    third.keep(ndn.from_uri("/x"), data("/x", fresh_ms=1000), clock.mono_s + 1)
    third.flush()
    clock.wall_s -= 1_000_000
    entry = third.find(ndn.from_uri("/x"), can_be_prefix=False, must_be_fresh=False, now=clock.mono_s)
    assert entry is not None and entry[2] <= clock.mono_s + 1, "a clock set back prolongs nothing"


def test_damaged_rows_are_not_served(tmp_path: Path, clock: Clock) -> None:
    first = tier(tmp_path, clock)
    names = [keep(first, f"/a/{index}") for index in range(4)]
    first.close()
    with sqlite3.connect(tmp_path / "cs.sqlite") as database:
        wire = bytearray(data("/a/0"))
        wire[-1] ^= 1
        database.execute("UPDATE packets SET wire = ? WHERE name = ?", (bytes(wire), names[0]))
        other = data("/other")
        database.execute(
            "UPDATE packets SET wire = ?, digest = ? WHERE name = ?",
            (other, hashlib.sha256(other).digest(), names[1]),
        )
        database.execute("UPDATE packets SET fresh = 'soon' WHERE name = ?", (names[2],))
    database.close()
    again = tier(tmp_path, clock)
    assert [found(again, name) for name in names] == [None, None, None, names[3]]
    assert again.corrupt == 3
    assert found(again, ndn.from_uri("/a"), prefix=True) == names[3]


@pytest.mark.parametrize(
    "content", [b"this is no database at all, but a text of some length" * 40, b"SQLite format 3\0" + b"\7" * 4096]
)
def test_a_file_that_is_no_store_is_put_aside(tmp_path: Path, clock: Clock, content: bytes) -> None:
    path = tmp_path / "cs.sqlite"
    path.write_bytes(content)
    disk = tier(tmp_path, clock)
    assert found(disk, keep(disk, "/a")) is not None
    assert (tmp_path / "cs.sqlite.damaged").read_bytes() == content


def test_two_processes_do_not_share_a_file(tmp_path: Path, clock: Clock, disk: DiskTier) -> None:
    keep(disk, "/a")
    disk.flush()
    with pytest.raises(ConfigError, match="cannot keep a Content Store"):
        tier(tmp_path, clock)
    assert found(disk, ndn.from_uri("/a")) is not None


def test_an_impossible_folder_is_a_clear_error(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot keep a Content Store"):
        tier(tmp_path / "file", clock)


def test_the_file_is_bounded_and_the_oldest_go(tmp_path: Path, clock: Clock) -> None:
    disk = tier(tmp_path, clock, capacity_bytes=100_000)
    names = [keep(disk, f"/a/{index}") for index in range(1000)]
    disk.flush()
    assert disk.used_bytes <= 100_000
    kept = [name for name in names if found(disk, name) is not None]
    assert kept and kept == names[-len(kept) :]


def test_a_newer_packet_replaces_the_one_on_disk(disk: DiskTier) -> None:
    store = ContentStore(1, 1 << 20, second=disk)
    put(store, "/a", size=1)
    put(store, "/b")
    disk.flush()
    newer = put(store, "/a", size=2)
    put(store, "/c")
    assert get(store, "/a") == newer
    assert store.erase(ndn.from_uri("/"), 100) == 3
    assert get(store, "/a") is None and get(store, "/b") is None and disk.packets == 0


def test_a_full_disk_costs_packets_not_the_forwarder(disk: DiskTier) -> None:
    disk._database.execute("PRAGMA max_page_count = 4")
    store = ContentStore(1, 1 << 20, second=disk)
    for index in range(BATCH_PACKETS * 3):
        put(store, f"/a/{index}", size=4000)
    assert disk.failed > 0
    assert get(store, f"/a/{BATCH_PACKETS * 3 - 1}") is not None


def test_the_name_filter_never_denies_what_is_there() -> None:
    names = NameFilter()
    members = [ndn.from_uri(f"/member/{index}") for index in range(5000)]
    for name in members:
        names.add(name)
    assert all(name in names for name in members)
    assert sum(ndn.from_uri(f"/stranger/{index}") in names for index in range(5000)) < 50
