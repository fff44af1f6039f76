"""The file of a DiskStore: rows of objects and their packets in SQLite.

Owns: the schema, transactions, opening what is damaged, in use or read-only. WAL, synchronous=FULL for pinned objects
(durable when the transaction ends) and NORMAL for others (whole or not at all, whatever happens). Freed pages are used
again, the file never shrinks, and max_page_count holds it at its bound; the write-ahead log beside it has up to 4 MiB,
while a larger object is written as much as that. One process uses a file at a time. Must not know: names, manifests,
who is forgotten.

Reading happens in the thread of the caller, writing in one other thread.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from ndn_infer.errors import BadPacket, ConfigError
from ndn_infer.files import lock, put_aside
from ndn_infer.ndn.name import Name

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
PAGE_BYTES: Final = 16384
BUSY_S: Final = 2.0
SPARE_PAGES: Final = 64
LOG_BYTES: Final = 4 << 20

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS objects(id INTEGER PRIMARY KEY AUTOINCREMENT, base BLOB UNIQUE NOT NULL, "
    "metadata BLOB NOT NULL, digest BLOB NOT NULL, sizes BLOB NOT NULL, bytes INTEGER NOT NULL, "
    "pinned INTEGER NOT NULL, stored REAL NOT NULL, used INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS chunks(object INTEGER NOT NULL, number INTEGER NOT NULL, wires BLOB NOT NULL, "
    "PRIMARY KEY(object, number))",
)
_ALL: Final = "SELECT id, base, sizes, bytes, pinned, stored FROM objects ORDER BY used, id"
_INSERT: Final = (
    "INSERT INTO objects(base, metadata, digest, sizes, bytes, pinned, stored, used) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, (SELECT COALESCE(MAX(used), 0) + 1 FROM objects))"
)


def bytes_on_disk(size: int) -> int:
    """At most what a row of `size` bytes takes, in pages: small rows share one, large ones continue on others."""
    if size < PAGE_BYTES // 2:
        return 2 * size + 256
    return (size // (PAGE_BYTES - 36) + 2) * PAGE_BYTES if size > PAGE_BYTES - 300 else PAGE_BYTES + 256


class ObjectRow(NamedTuple):
    """An object in the file. `sizes` are the bytes of its packets, metadata apart; `stored` Unix epoch seconds."""

    id: int
    base: Name
    sizes: tuple[int, ...]
    size: int
    pinned: bool
    stored: float
    with_next: bool = False
    """Durable when the next pinned object is: its transaction waits for no disk."""


class StoreFile:
    """Raises ConfigError when there is neither a file that can be read nor a place to make one."""

    def __init__(self, path: Path, capacity_bytes: int) -> None:
        self._path = path
        self._pages = SPARE_PAGES + capacity_bytes // PAGE_BYTES
        self.read_only = False
        self._writer: sqlite3.Connection | None = None
        self._rows: list[Any] = []
        self._lock = self._take()
        try:
            self._reader = self._open()
        except BaseException:
            self._release()
            raise

    # ------------------------------------------------------------ reading

    def objects(self) -> Iterator[ObjectRow]:
        """All rows as they were at opening, least recently used first; once."""
        rows, self._rows = self._rows, []
        for number, base, sizes, size, pinned, stored in rows:
            if len(sizes) % 2 == 0:
                yield ObjectRow(number, base, struct.unpack(f"<{len(sizes) // 2}H", sizes), size, bool(pinned), stored)

    def metadata(self, number: int) -> bytes:
        """An object's metadata packet. Raises BadPacket when it is not the one that was stored."""
        rows = self._read("SELECT metadata, digest FROM objects WHERE id = ?", (number,))
        if len(rows) != 1 or hashlib.sha256(rows[0][0]).digest() != rows[0][1]:
            raise BadPacket("its metadata packet is not the one that was stored")
        wire: bytes = rows[0][0]
        return wire

    def chunk(self, number: int, chunk: int) -> bytes:
        """The joined packets of a chunk; b"" when it is not there."""
        rows = self._read("SELECT wires FROM chunks WHERE object = ? AND number = ?", (number, chunk))
        return rows[0][0] if len(rows) == 1 else b""

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            log.warning("the store %s cannot be read: %s", self._path, error)
            return []

    # ------------------------------------------------------------ writing, in one thread

    def write(self, row: ObjectRow, metadata: bytes, chunks: Iterable[bytes], *, instead_of: Sequence[int]) -> int:
        """Add an object and delete others, all or nothing; its id. Raises sqlite3.Error."""
        writer = self._connection()
        writer.execute(f"PRAGMA synchronous={'FULL' if row.pinned and not row.with_next else 'NORMAL'}")
        sizes = struct.pack(f"<{len(row.sizes)}H", *row.sizes)
        values = (row.base, metadata, hashlib.sha256(metadata).digest(), sizes, row.size, row.pinned, row.stored)
        with writer:
            _delete(writer, instead_of)
            number = writer.execute(_INSERT, values).lastrowid
            assert number is not None
            writer.executemany(
                "INSERT INTO chunks(object, number, wires) VALUES (?, ?, ?)",
                ((number, index, wires) for index, wires in enumerate(chunks)),
            )
        return number

    def delete(self, numbers: Sequence[int]) -> None:
        """Delete objects; a file that cannot be written is logged."""
        try:
            writer = self._connection()
            with writer:
                _delete(writer, numbers)
        except sqlite3.Error as error:
            log.warning("the store %s cannot be written: %s", self._path, error)

    def finish(self, order: Sequence[int]) -> None:
        """Remember in which order objects were used, and close the writing side."""
        if self.read_only:
            return
        try:
            writer = self._connection()
            with writer:
                writer.executemany("UPDATE objects SET used = ? WHERE id = ?", list(enumerate(order)))
        except sqlite3.Error as error:
            log.warning("the store %s cannot be written: %s", self._path, error)
        if self._writer is not None:
            self._writer.close()

    def close(self) -> None:
        """After `finish`."""
        self._reader.close()
        self._release()

    # ------------------------------------------------------------ the file

    def _take(self) -> int | None:
        """A lock that ends with the process, however that ends. Raises ConfigError when another one has it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return lock(self._path.with_name(self._path.name + ".lock"), wait=False)
        except BlockingIOError as error:
            raise ConfigError(
                f"the store {self._path} is in use by another process", hint="stop that one, or choose another file"
            ) from error
        except OSError:
            return None  # a folder that cannot be written: nobody else writes there either

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return self._make_and_read()
        except sqlite3.OperationalError as error:  # cannot be written, or is in use
            return self._open_read_only(error)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the words of sqlite hold bytes of the file
            try:
                aside = put_aside(self._path)
                log.warning("%s is not a store of this program (%s); renamed to %s", self._path, error, aside.name)
                return self._make_and_read()
            except (OSError, sqlite3.Error) as second:
                raise _unusable(self._path, second) from second
        except OSError as error:
            return self._open_read_only(error)

    def _make_and_read(self) -> sqlite3.Connection:
        self._connect().close()
        reader = sqlite3.connect(self._path, timeout=BUSY_S, check_same_thread=False)
        try:
            self._rows = reader.execute(_ALL).fetchall()
        except BaseException:
            reader.close()
            raise
        return reader

    def _open_read_only(self, error: Exception) -> sqlite3.Connection:
        """What is there can still be answered. Raises ConfigError."""
        # Without a log there is nothing to lock. With one (its process was killed) it must be read as well.
        log_there = self._path.with_name(self._path.name + "-wal").exists()
        uri = f"{self._path.absolute().as_uri()}?mode=ro{'' if log_there else '&immutable=1'}"
        try:
            database = sqlite3.connect(uri, uri=True, check_same_thread=False)
            try:
                self._rows = database.execute(_ALL).fetchall()
            except BaseException:
                database.close()
                raise
        except (OSError, sqlite3.Error):
            raise _unusable(self._path, error) from error
        self.read_only = True
        log.warning("the store %s cannot be written (%s): it is answered from, nothing is added", self._path, error)
        return database

    def _connection(self) -> sqlite3.Connection:
        """The writer's connection. Raises sqlite3.Error."""
        if self._writer is None:
            if self.read_only:
                raise sqlite3.OperationalError("it cannot be written")
            self._writer = self._connect()
        return self._writer

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=BUSY_S)
        try:
            os.chmod(self._path, 0o600)
            log_pages = f"wal_autocheckpoint={LOG_BYTES // PAGE_BYTES}"
            for pragma in (
                f"page_size={PAGE_BYTES}", "journal_mode=WAL", "synchronous=NORMAL", log_pages,
                f"journal_size_limit={LOG_BYTES}",
            ):  # fmt: skip
                database.execute(f"PRAGMA {pragma}")
            database.execute(f"PRAGMA max_page_count={self._pages}")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"version {version}, this program reads {SCHEMA_VERSION}")
            if version == 0:
                with database:
                    for statement in (*_SCHEMA, f"PRAGMA user_version={SCHEMA_VERSION}"):
                        database.execute(statement)
            return database
        except BaseException:
            database.close()
            raise


def _delete(database: sqlite3.Connection, numbers: Sequence[int]) -> None:
    for number in numbers:
        database.execute("DELETE FROM chunks WHERE object = ?", (number,))
        database.execute("DELETE FROM objects WHERE id = ?", (number,))


def _unusable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"the store {path} cannot be used: {error}", hint="is its folder writable? see producer.store_path"
    )
