"""The Content Store's second tier: packets in an SQLite file, which survives a restart and is never trusted blindly.

Owns: the file, its bound, and checking what comes out of it: a packet is given back only if its SHA-256 is the one
stored beside it and it is a Data packet of that name; anything else is forgotten. A file that is no database of ours
is put aside and a new one begun. Writes wait for a batch. Must not know: what is asked for, or why.

One process uses a file at a time. It is a cache: what was not written when the machine failed is fetched again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ndn_infer.errors import BadPacket, ConfigError
from ndn_infer.files import put_aside
from ndn_infer.forwarder.core.parsing import parse_data
from ndn_infer.ndn.name import Name, ends_in_digest

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
BATCH_PACKETS: Final = 128
MAX_SCANNED: Final = 256
ROW_OVERHEAD_BYTES: Final = 300
BUSY_S: Final = 0.5
FILTER_BITS: Final = 1 << 24
"""Names that are surely not here are known without asking the file: 2 MiB, wrong for 3 % of 1,000,000 names."""


class NameFilter:
    """A Bloom filter over names: never wrong when it says no."""

    def __init__(self) -> None:
        self._bits = bytearray(FILTER_BITS // 8)

    def add(self, name: Name) -> None:
        for at in self._places(name):
            self._bits[at >> 3] |= 1 << (at & 7)

    def __contains__(self, name: Name) -> bool:
        return all(self._bits[at >> 3] >> (at & 7) & 1 for at in self._places(name))

    @staticmethod
    def _places(name: Name) -> tuple[int, int, int]:
        value = hash(name)  # of bytes: keyed by the process, so nobody outside can aim at it
        mask = FILTER_BITS - 1
        return value & mask, (value >> 20) & mask, (value >> 40) & mask


class DiskTier:
    """`wall` is the wall clock (Unix epoch seconds), `clock` the one that `fresh_until` and `now` are on.

    Raises ConfigError when the folder cannot be written.
    """

    def __init__(
        self, path: Path, capacity_bytes: int, *, wall: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self._path = path
        self._capacity_bytes = capacity_bytes
        self._wall = wall
        self._clock = clock
        self._waiting: OrderedDict[Name, tuple[bytes, float]] = OrderedDict()
        self._filter = NameFilter()
        self.corrupt = 0
        self.written = 0
        self.failed = 0
        self._database = self._open()
        row = self._database.execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(wire)), 0) FROM packets").fetchone()
        self.packets = int(row[0])
        self.used_bytes = int(row[1]) + self.packets * ROW_OVERHEAD_BYTES
        for (name,) in self._database.execute("SELECT name FROM packets"):
            self._filter.add(name)

    # ------------------------------------------------------------ SecondTier (content_store.py)

    def keep(self, name: Name, wire: bytes, fresh_until: float) -> None:
        self._waiting[name] = (wire, fresh_until)
        if len(self._waiting) >= BATCH_PACKETS:
            self.flush()

    def find(
        self, name: Name, *, can_be_prefix: bool, must_be_fresh: bool, now: float
    ) -> tuple[Name, bytes, float] | None:
        digest = name[-32:] if ends_in_digest(name) else None
        exact = name[:-34] if digest is not None else name
        if exact in self._waiting or exact in self._filter:
            found = self._exact(exact)
            if found is not None and (not must_be_fresh or found[2] > now):
                if digest is None or hashlib.sha256(found[1]).digest() == digest:
                    return found
        if can_be_prefix and digest is None:
            self.flush()
            for candidate in self._below(name, MAX_SCANNED):
                found = self._exact(candidate)
                if found is not None and (not must_be_fresh or found[2] > now):
                    return found
        return None

    def forget(self, name: Name) -> None:
        self._waiting.pop(name, None)
        if name in self._filter:
            self._delete([name])

    def erase(self, prefix: Name, limit: int) -> int:
        self.flush()
        names = list(self._below(prefix, limit))
        self._delete(names)
        return len(names)

    # ------------------------------------------------------------ life

    def flush(self) -> None:
        """Write what waits. A disk that is full or fails costs the packets, not the forwarder."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, OrderedDict()
        offset = self._wall() - self._clock()
        rows = [
            (name, hashlib.sha256(wire).digest(), fresh_until + offset if fresh_until else 0.0, wire)
            for name, (wire, fresh_until) in waiting.items()
        ]
        try:
            self._delete(list(waiting))
            with self._database:
                self._database.executemany("INSERT INTO packets(name, digest, fresh, wire) VALUES (?, ?, ?, ?)", rows)
            self.packets += len(rows)
            self.written += len(rows)
            self.used_bytes += sum(len(row[3]) + ROW_OVERHEAD_BYTES for row in rows)
            for row in rows:
                self._filter.add(row[0])
            self._evict()
        except sqlite3.Error as error:
            if not self.failed:
                log.warning("the Content Store on disk cannot be written (%s): %s", self._path, error)
            self.failed += len(rows)

    def close(self) -> None:
        self.flush()
        self._database.close()

    # ------------------------------------------------------------ the file

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return self._connect()
        except sqlite3.OperationalError as error:  # not writable, or another process has it
            raise _unusable(self._path, error) from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the words of sqlite hold bytes of the file
            try:
                aside = put_aside(self._path)
                log.warning("%s is not a Content Store (%s); renamed to %s", self._path, error, aside.name)
                return self._connect()
            except (OSError, sqlite3.Error) as second:
                raise _unusable(self._path, second) from second
        except OSError as error:
            raise _unusable(self._path, error) from error

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=BUSY_S)
        try:
            os.chmod(self._path, 0o600)
            # A cache need not survive a power failure, and must not make the forwarder wait for the disk.
            for pragma in ("journal_mode=WAL", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
                database.execute(f"PRAGMA {pragma}")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"version {version}, this program reads {SCHEMA_VERSION}")
            with database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS packets(id INTEGER PRIMARY KEY, name BLOB UNIQUE NOT NULL, "
                    "digest BLOB NOT NULL, fresh REAL NOT NULL, wire BLOB NOT NULL)"
                )
                database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            return database
        except BaseException:
            database.close()
            raise

    def _exact(self, name: Name) -> tuple[Name, bytes, float] | None:
        waiting = self._waiting.get(name)
        if waiting is not None:
            return name, *waiting
        try:
            row = self._database.execute("SELECT digest, fresh, wire FROM packets WHERE name = ?", (name,)).fetchone()
        except sqlite3.Error as error:
            log.warning("the Content Store on disk cannot be read: %s", error)
            return None
        if row is None:
            return None
        digest, fresh, wire = row
        period_s = _checked_freshness_s(name, digest, fresh, wire)
        if period_s is None:
            self.corrupt += 1
            log.warning("a packet of the Content Store on disk was damaged; it was deleted")
            self._delete([name])
            return None
        left = min(fresh - self._wall(), period_s)  # a clock that was set back makes nothing fresh again for longer
        return name, wire, self._clock() + left if left > 0 else 0.0

    def _below(self, prefix: Name, limit: int) -> Iterator[Name]:
        """Names that start with `prefix`: those from it up to the next string of bytes that does not."""
        last = prefix.rstrip(b"\xff")
        after = last[:-1] + bytes((last[-1] + 1,)) if last else None
        query = "SELECT name FROM packets WHERE name >= ?" + (" AND name < ?" if after is not None else "")
        bounds = (prefix, after) if after is not None else (prefix,)
        try:
            rows = self._database.execute(f"{query} ORDER BY name LIMIT ?", (*bounds, limit)).fetchall()
        except sqlite3.Error as error:
            log.warning("the Content Store on disk cannot be read: %s", error)
            rows = []
        return (row[0] for row in rows)

    def _delete(self, names: list[Name]) -> None:
        try:
            with self._database:
                for name in names:
                    row = self._database.execute("DELETE FROM packets WHERE name = ? RETURNING LENGTH(wire)", (name,))
                    self._gone([size for (size,) in row.fetchall()])
        except sqlite3.Error as error:
            log.warning("the Content Store on disk cannot be written: %s", error)

    def _evict(self) -> None:
        """The oldest go first; one that was used again has been written again, and is young."""
        while self.used_bytes > self._capacity_bytes and self.packets:
            with self._database:
                row = self._database.execute(
                    "DELETE FROM packets WHERE id IN (SELECT id FROM packets ORDER BY id LIMIT ?) "
                    "RETURNING LENGTH(wire)",
                    (BATCH_PACKETS,),
                )
                self._gone([size for (size,) in row.fetchall()])

    def _gone(self, sizes: list[int]) -> None:
        self.packets -= len(sizes)
        self.used_bytes -= sum(sizes) + len(sizes) * ROW_OVERHEAD_BYTES


def _checked_freshness_s(name: Name, digest: object, fresh: object, wire: object) -> float | None:
    """FreshnessPeriod of what a row holds, None unless it is undamaged Data of that name."""
    if not (isinstance(wire, bytes) and isinstance(fresh, float) and hashlib.sha256(wire).digest() == digest):
        return None
    try:
        found, freshness_ms, _ = parse_data(wire)
    except BadPacket:
        return None
    return freshness_ms / 1000 if found == name else None


def _unusable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"cannot keep a Content Store at {path}: {error}",
        hint="is another forwarder using it, or the folder not writable? see forwarder.cs_disk_path",
    )
