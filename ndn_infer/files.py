"""Files of this machine that several processes read and write: written at once, locked, put aside when damaged.

Owns: how that is done, and which path a user's text is. Must not know: what is in any file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ndn_infer.errors import StorageError, UsageError

PRIVATE_KEY: Final = "private key"
_BLOCK: Final = 4096


def path_of(text: str | Path) -> Path:
    """The path that a user's text is, ~ being a home; something may lie there or not. Raises UsageError for a text that
    no path here can be."""
    try:
        path = Path(text).expanduser()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UsageError(f"{str(text)[:80]!r} is no path here: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:  # no such user; a zero byte
        raise UsageError(f"{str(text)[:80]!r} is no path here: {error}") from error
    return path


def write_at_once(path: Path, *content: bytes | memoryview, mode: int = 0o600) -> None:
    """Write a file so that readers see the old content or the new one, also after a crash. Raises StorageError; then
    nothing is left behind."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def append_whole(path: Path, record: bytes) -> None:
    """Put a record behind those of its size: one that was only begun, at any time before, is cut off first, so that
    every record of the file stays where it can be read. On disk at return. One writer at a time. Raises OSError; then
    the file is as it was, or has a beginning that the next one cuts off."""
    with _opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        _put_at(descriptor, size - size % len(record), record)
        os.fsync(descriptor)


def append_line(path: Path, line: bytes) -> None:
    """The same with lines, each of which ends with a line feed; on disk when the system writes it."""
    with _opened(path) as descriptor:
        _put_at(descriptor, _lines_end(descriptor), line)


def _lines_end(descriptor: int) -> int:
    """Where the last whole line ends."""
    end = os.fstat(descriptor).st_size
    while end:
        first = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - first, first).rfind(b"\n")
        if found >= 0:
            return first + found + 1
        end = first
    return 0


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _put_at(descriptor: int, end: int, content: bytes) -> None:
    """As the last of the file. Raises OSError, also where not all of it was taken: then none of it is there."""
    if os.fstat(descriptor).st_size > end:
        os.ftruncate(descriptor, end)
    if os.write(descriptor, content) < len(content):
        os.ftruncate(descriptor, end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_private(path: Path, limit: int, what: str = PRIVATE_KEY) -> bytes | None:
    """At most `limit` bytes of a file that is for this user alone, or None where there is none. Refuses a file that
    others may read; `what` it is, for words. Raises StorageError."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                renew = ", and make a new key if others may have read it" if what == PRIVATE_KEY else ""
                raise StorageError(
                    f"{what} {path} can be read or changed by others (mode {mode:04o})", hint=f"chmod 600 {path}{renew}"
                )
            return file.read(limit)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def lock(path: Path, *, wait: bool = True, mode: int = 0o600) -> int:
    """A descriptor that excludes every other process until it is closed, or its process ends, however it ends. Raises
    OSError; BlockingIOError where another has it and we do not wait."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True, mode: int = 0o600) -> Iterator[int]:
    """`lock` for a block."""
    descriptor = lock(path, wait=wait, mode=mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone_in(folder: Path, name: str = ".lock") -> Iterator[None]:
    """A folder, made where it is missing, of which no other process changes anything in this block, as long as all of
    them ask for the lock of this name. Raises StorageError."""
    with contextlib.ExitStack() as ends:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            ends.enter_context(locked(folder / name))
        except OSError as error:
            raise StorageError(f"cannot use {folder}: {error.strerror}") from error
        yield


def put_aside(path: Path) -> Path:
    """Rename a damaged database, so that a new one can be begun; where it is now. Raises OSError."""
    aside = path.with_name(path.name + ".damaged")
    os.replace(path, aside)
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    return aside
