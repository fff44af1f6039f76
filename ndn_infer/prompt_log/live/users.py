"""The keys of users, as files: the one thing that makes a log's records readable, and the one thing to destroy.

Owns: a folder with one private key for each user, the list of keys that were destroyed, and what the log is still to
say of them. Must not know: records, trees, who may ask.

Nothing else holds these keys, in memory neither: a key is read when somebody exports, on this machine. A file is
overwritten before it goes; what a file system or a disk keeps beneath (snapshots, spare cells) is beyond a program's
reach, so the folder belongs on a medium without them, and in no backup that outlives an erasure.

What the log will say of an erasure is written first, then the key is destroyed, and the former goes when the log has
said it: a crash at any step leaves an erasure that the next start finishes.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ndn_infer.errors import StorageError
from ndn_infer.files import append_whole, read_private, write_at_once
from ndn_infer.ndn.name import Name
from ndn_infer.prompt_log.entries import KEY_ID_BYTES, key_id
from ndn_infer.security.domain_keys import DecryptionKey

MAX_PEM: Final = 4096
MAX_USERS: Final = 1_000_000
_ERASED: Final = "erased"
_MAX_SAID: Final = 8192


def user_of(log: Name, user: str) -> bytes:
    """Which user, as a log is asked. Namelessly, but who guesses a name can compare."""
    return hashlib.sha256(b"ndn-infer log user v1\0" + log + b"\0" + user.encode()).digest()[:16]


class UserKeys:
    """`folder` is made. Threads may call at once; one process changes what is in it. Raises StorageError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            erased = (folder / _ERASED).read_bytes() if (folder / _ERASED).exists() else b""
        except OSError as error:
            raise StorageError(f"cannot use {folder}: {error.strerror}") from error
        whole = len(erased) - len(erased) % KEY_ID_BYTES
        self._erased = {erased[at : at + KEY_ID_BYTES] for at in range(0, whole, KEY_ID_BYTES)}
        self._lock = threading.Lock()
        self._public: dict[bytes, bytes] = {}
        for path in folder.glob("*.pem"):
            private = self._read(path)
            if private is not None:
                self._public[bytes.fromhex(path.stem)] = private.public
            else:
                path.unlink(missing_ok=True)  # overwritten, before a crash
        self._live = {key_id(public) for public in self._public.values()}

    def public(self, user: bytes) -> bytes:
        """The public key of a user; drawn when first asked for. Raises StorageError."""
        with self._lock:
            found = self._public.get(user)
            if found is None:
                if len(self._public) >= MAX_USERS:
                    raise StorageError(f"this log has keys of {MAX_USERS} users, the most that it takes")
                private = DecryptionKey.generate()
                write_at_once(self._path(user), private.to_pem())
                found = self._public[user] = private.public
                self._live.add(key_id(found))
            return found

    def users(self) -> list[bytes]:
        """Those who have a key."""
        return list(self._public)

    def live(self, key: bytes) -> bool:
        """Whether somebody can still read what is encrypted to the key with this id."""
        return key in self._live

    def erased(self, key: bytes) -> bool:
        return key in self._erased

    def private(self, user: bytes) -> DecryptionKey | None:
        """None where there is no key, or none any more. Raises StorageError."""
        return self._read(self._path(user))

    def erase(self, user: bytes, saying: Callable[[bytes], bytes]) -> bytes:
        """Destroy a user's key; its id, b"" where there was none. When this returns it is gone from the disk. What the
        log is to say of the key with this id, `saying` makes: it is in `unsaid` until `said`. Raises StorageError."""
        with self._lock:
            public = self._public.get(user)
            if public is None:
                return b""
            gone = key_id(public)
            write_at_once(self._unsaid_path(gone), saying(gone))
            self._destroy(user, gone)
            return gone

    def unsaid(self) -> dict[bytes, bytes]:
        """What the log is still to say of keys, by their ids; a key that a crash left of them is destroyed now. Raises
        StorageError."""
        paths = sorted(self._folder.glob("*.unsaid"))
        found = {bytes.fromhex(path.stem): read_private(path, _MAX_SAID, "erasure") or b"" for path in paths}
        with self._lock:
            left = {user: key_id(public) for user, public in self._public.items()}
            for user, key in left.items():
                if key in found:
                    self._destroy(user, key)
        return found

    def said(self, key: bytes) -> None:
        """The log has it on disk. Raises StorageError."""
        path = self._unsaid_path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove {path}: {error.strerror}") from error

    def _destroy(self, user: bytes, key: bytes) -> None:
        path = self._path(user)
        try:
            self._remember(key)
            if path.exists():
                with path.open("r+b") as file:
                    size = os.fstat(file.fileno()).st_size
                    file.write(bytes(size))
                    file.flush()
                    os.fsync(file.fileno())
                path.unlink(missing_ok=True)
            folder = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            hint = "give the command again, or start the log again: it finishes what was begun"
            raise StorageError(f"cannot destroy {path}: {error.strerror}", hint=hint) from error
        del self._public[user]
        self._live.discard(key)

    def _remember(self, gone: bytes) -> None:
        append_whole(self._folder / _ERASED, gone)
        self._erased.add(gone)

    def _read(self, path: Path) -> DecryptionKey | None:
        """None too for one that was overwritten."""
        pem = read_private(path, MAX_PEM)
        return DecryptionKey.from_pem(pem) if pem is not None and pem.strip(b"\0") else None

    def _path(self, user: bytes) -> Path:
        return self._folder / f"{user.hex()}.pem"

    def _unsaid_path(self, key: bytes) -> Path:
        return self._folder / f"{key.hex()}.unsaid"
