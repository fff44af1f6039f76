"""What was embedded so far: a file that grows while an index is built, so that an interrupted build goes on.

Owns: its format, and the lock that one process holds on it. Must not know: passages. A record that was cut off, or is
damaged, ends what is read of the file.

File: MAGIC, the length of the header (4 bytes), the header (JSON), the basis (float32), then records: the key (16
bytes), how many tokens (4 bytes), the vector (float32), token ids (int32), tokens (int8), CRC-32 of all that.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import numpy as np
import numpy.typing as npt

from ndn_infer.corpus.late import Matrix
from ndn_infer.errors import StorageError
from ndn_infer.files import lock

MAGIC: Final = b"NDNIJRN1"
_MAX_HEADER: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Embedded:
    """One window as it was embedded; without tokens where the ranking takes none."""

    vector: Matrix
    ids: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int8]


class Journal:
    """A context manager. `facts` say what its records are of: a file of other facts is begun anew. Where another
    process builds with it, or the disk permits no file, records lie in a file without a name."""

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self._facts = json.dumps(dict(facts), sort_keys=True).encode()
        self._places: dict[bytes, tuple[int, int]] = {}
        self._lock = -1
        self.basis: Matrix | None = None
        self._path: Path | None = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = lock(path.with_suffix(".lock"), wait=False)
            self._file: IO[bytes] = path.open("a+b")
        except OSError:
            self._path = None
            self._file = tempfile.TemporaryFile()
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._file.close()
        if self._lock >= 0:
            os.close(self._lock)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def begin(self, basis: Matrix) -> None:
        """Forget what there is; the records that follow are in this basis ([d, 0] without tokens)."""
        self._file.truncate(0)
        self._file.seek(0)
        self._places.clear()
        self.basis = basis
        header = json.dumps({"facts": self._facts.decode(), "basis": list(basis.shape)}).encode()
        self._write(MAGIC + len(header).to_bytes(4, "big") + header + basis.astype("<f4").tobytes())

    def add(self, records: Mapping[bytes, Embedded]) -> None:
        """Raises StorageError when the disk is full."""
        self._file.seek(0, os.SEEK_END)
        at = self._file.tell()
        wires = []
        for key, record in records.items():
            body = b"".join((
                key, len(record.ids).to_bytes(4, "big"), record.vector.astype("<f4").tobytes(),
                record.ids.astype("<i4").tobytes(), record.tokens.tobytes(),
            ))  # fmt: skip
            self._places[key] = (at, len(record.ids))
            wires.append(body + zlib.crc32(body).to_bytes(4, "big"))
            at += len(wires[-1])
        self._write(b"".join(wires))

    def record(self, key: bytes) -> Embedded:
        at, count = self._places[key]
        self._file.seek(at)
        return self._parsed(self._file.read(self._size(count)), count)

    def remove(self) -> None:
        """All of it is in an index now."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write(self, wire: bytes) -> None:
        try:
            self._file.write(wire)
            self._file.flush()
        except OSError as error:
            raise StorageError(f"cannot write {self._path or 'a temporary file'}: {error.strerror}") from error

    def _size(self, count: int) -> int:
        assert self.basis is not None
        width, kept = self.basis.shape
        return 16 + 4 + 4 * int(width) + count * (4 + int(kept)) + 4

    def _parsed(self, wire: bytes, count: int) -> Embedded:
        assert self.basis is not None
        width, kept = self.basis.shape
        ids_at = 20 + 4 * width
        tokens_at = ids_at + 4 * count
        return Embedded(
            np.frombuffer(wire, "<f4", width, 20), np.frombuffer(wire, "<i4", count, ids_at),
            np.frombuffer(wire, np.int8, count * kept, tokens_at).reshape(count, kept),
        )  # fmt: skip

    def _read(self) -> None:
        self._file.seek(0)
        head = self._file.read(len(MAGIC) + 4)
        size = int.from_bytes(head[len(MAGIC) :], "big")
        try:
            said = json.loads(self._file.read(min(size, _MAX_HEADER)))
            width, kept = (int(value) for value in said["basis"])
            raw = self._file.read(4 * width * kept)
            if head[: len(MAGIC)] != MAGIC or said["facts"].encode() != self._facts or len(raw) != 4 * width * kept:
                return
            self.basis = np.frombuffer(raw, "<f4").reshape(width, kept)
        except (ValueError, KeyError, TypeError):
            return
        at = self._file.tell()
        while len(head := self._file.read(20)) == 20:
            size = self._size(count := int.from_bytes(head[16:], "big"))
            body = head + self._file.read(min(size, 1 << 24) - 20)
            if len(body) != size or zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "big"):
                break
            self._places[head[:16]] = (at, count)
            at += size
        self._file.truncate(at)
