"""The spool: sealed entries of one log that wait for it, as files, at most so many bytes, and those that it refused.

Owns: their order and their bounds. Must not know: what is in them (they are encrypted to their users), the network.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from ndn_infer.errors import StorageError, StoreFull
from ndn_infer.files import read_private, write_at_once

_MOST: Final = 8 << 20


class Spool:
    """`folder` is made when something waits. One process has it; its threads may call at once. Raises StorageError."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes
        try:
            self._sizes, refused = _sizes(folder, "entry"), _sizes(folder, "refused")
        except OSError as error:
            raise StorageError(f"cannot read {folder}: {error.strerror}") from error
        self._refused_bytes = sum(refused.values())
        self._next = max((int(path.stem) for path in (*self._sizes, *refused)), default=0) + 1
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def used_bytes(self) -> int:
        return sum(self._sizes.values())

    def room(self, size: int) -> bool:
        return self.used_bytes + size <= self._most

    def put(self, entry: bytes) -> None:
        """It is on disk when this returns. Raises StoreFull, StorageError."""
        with self._lock:
            if not self.room(len(entry)):
                raise StoreFull(f"{len(self)} records wait for the log, and the spool takes no more")
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise StorageError(f"cannot use {self._folder}: {error.strerror}") from error
            path = self._folder / f"{self._next:016d}.entry"
            write_at_once(path, entry)
            self._next += 1
            self._sizes[path] = len(entry)

    def first(self) -> bytes | None:
        """The oldest entry; None when nothing waits."""
        with self._lock:
            while self._sizes:
                path = next(iter(self._sizes))
                content = read_private(path, _MOST, "record")
                if content is not None:
                    return content
                del self._sizes[path]
        return None

    def done(self) -> None:
        """The oldest is in the log. Raises StorageError; then it is still the oldest."""
        with self._lock:
            path = next(iter(self._sizes))
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"cannot remove {path}: {error.strerror}") from error
            del self._sizes[path]

    def set_aside(self) -> Path | None:
        """The oldest will never be in the log. Where it is now, for whoever looks into it; None where what was set
        aside has as many bytes as may wait: then it is gone. Raises StorageError; then it is still the oldest."""
        with self._lock:
            path = next(iter(self._sizes))
            aside = path.with_suffix(".refused") if self._refused_bytes + self._sizes[path] <= self._most else None
            try:
                path.unlink() if aside is None else path.replace(aside)
            except FileNotFoundError:
                aside = None
            except OSError as error:
                raise StorageError(f"cannot set {path} aside: {error.strerror}") from error
            size = self._sizes.pop(path)
            self._refused_bytes += size if aside is not None else 0
            return aside


def _sizes(folder: Path, ending: str) -> dict[Path, int]:
    """Of the spool's own files, in their order."""
    paths = [path for path in sorted(folder.glob(f"*.{ending}")) if len(path.stem) == 16 and path.stem.isdecimal()]
    return {path: path.stat().st_size for path in paths}
