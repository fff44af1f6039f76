"""The spool: sealed entries of one log that wait for it, as files, at most so many bytes.

Owns: their order and their bound. Must not know: what is in them (they are encrypted to their users), the network.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from ndn_infer.errors import StorageError, StoreFull
from ndn_infer.files import read_private, write_at_once

_MOST: Final = 8 << 20


class Spool:
    """`folder` is made when something waits. One process has it; its threads may call at once."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes
        sizes = {path: path.stat().st_size for path in sorted(folder.glob("*.entry"))} if folder.is_dir() else {}
        self._sizes: dict[Path, int] = sizes
        self._next = int(max(sizes).stem) + 1 if sizes else 1
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
                content = read_private(path, _MOST)
                if content is not None:
                    return content
                del self._sizes[path]
        return None

    def done(self) -> None:
        """The oldest is in the log."""
        with self._lock:
            path = next(iter(self._sizes))
            path.unlink(missing_ok=True)
            del self._sizes[path]
