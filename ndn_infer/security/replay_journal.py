"""The newest times of signed Interests that were accepted, in a file: what a restarted verifier must not accept again.

Owns: that file, shared by all processes of a key directory. Must not know: signatures, when something is a replay.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ndn_infer.ndn.name import Name

log = logging.getLogger(__name__)

_ENTRY: Final = struct.Struct(">8sQ")
_MAX_BYTES: Final = 4 << 20
_KEEP_MS: Final = 300_000


class ReplayJournal:
    """Entries of 16 bytes: the start of the SHA-256 of a key's name, a time in milliseconds.

    Those older than `oldest_ms` are dropped when it is opened. A file that cannot be used costs a warning.
    """

    def __init__(self, file: Path, *, oldest_ms: int) -> None:
        self._file = file
        self._floors: dict[bytes, int] = {}
        self._broken = False
        with self._opened() as descriptor:
            if descriptor is not None:
                self._floors = _compact(descriptor, oldest_ms)

    def floor_ms(self, key_name: Name) -> int:
        """The newest time that was accepted of this key before this process began, 0 for none."""
        return self._floors.get(_tag(key_name), 0)

    def note(self, key_name: Name, time_ms: int) -> None:
        with self._opened() as descriptor:
            if descriptor is not None:
                if os.lseek(descriptor, 0, os.SEEK_END) > 2 * _MAX_BYTES:
                    _compact(descriptor, time_ms - _KEEP_MS)
                os.write(descriptor, _ENTRY.pack(_tag(key_name), time_ms))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """The file, locked; None where it cannot be had."""
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            if not self._broken:
                log.warning("signed Interests could be replayed after a restart: %s: %s", self._file, error.strerror)
            self._broken = True
            yield None
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        except OSError as error:
            log.warning("cannot use %s: %s", self._file, error.strerror)
        finally:
            os.close(descriptor)


def _compact(descriptor: int, oldest_ms: int) -> dict[bytes, int]:
    """The newest time of each key, and the file with nothing but these. Whatever is before its last part is older."""
    size = os.fstat(descriptor).st_size
    os.lseek(descriptor, max(0, (size - _MAX_BYTES) // _ENTRY.size * _ENTRY.size), os.SEEK_SET)
    content = os.read(descriptor, _MAX_BYTES + _ENTRY.size)
    newest: dict[bytes, int] = {}
    for tag, time_ms in _ENTRY.iter_unpack(content[: len(content) // _ENTRY.size * _ENTRY.size]):
        if time_ms >= oldest_ms:
            newest[tag] = max(time_ms, newest.get(tag, 0))
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, b"".join(_ENTRY.pack(*item) for item in newest.items()))
    return newest


def _tag(key_name: Name) -> bytes:
    return hashlib.sha256(key_name).digest()[:8]
