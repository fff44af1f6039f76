"""The files of a key directory: private keys and certificates, written atomically and readable by their owner only.

Owns: file names, permissions and the lock. Must not know: which key is for what; see keychain.py.

    <directory>/            0700
      lock                  held (flock) while something is added
      anchor.cert           the certificate of the trust anchor, base64
      keys/<id>.key         PKCS#8 PEM, <id> is the start of the SHA-256 of the key's name
      certs/<id>-<v>.cert   base64, one file for every certificate of this key
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, StorageError
from ndn_infer.files import lock, read_private, write_at_once
from ndn_infer.ndn.name import Name
from ndn_infer.security.certificate import Certificate, from_text, to_text
from ndn_infer.security.crypto import PrivateKey

_LIMIT: Final = 1 << 20


class KeyDirectory:
    """The directory at `path`. Everything raises StorageError, with the path in the message."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys = path / "keys"
        self._certs = path / "certs"
        self._anchor = path / "anchor.cert"

    def prepare(self) -> None:
        """Make the directories where they are missing."""
        for directory in (self.path, self._keys, self._certs):
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"cannot make {directory}: {error.strerror}") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude every other process (and every other KeyDirectory of this one) that adds something."""
        self.prepare()
        try:
            descriptor = lock(self.path / "lock")
        except OSError as error:
            raise StorageError(f"cannot lock {self.path}: {error.strerror}") from error
        try:
            yield
        finally:
            os.close(descriptor)

    # ------------------------------------------------------------ reading

    def read_anchor(self) -> Certificate | None:
        return self._read_certificate(self._anchor) if self._anchor.exists() else None

    def read_certificates(self) -> list[Certificate]:
        """All of them, in the order of their file names."""
        self._check_directory()
        return [self._read_certificate(path) for path in sorted(self._certs.glob("*.cert"))]

    def read_key(self, key_name: Name) -> PrivateKey | None:
        """The private key of this name, or None. Refuses a file that others may read."""
        pem = read_private(self._key_path(key_name), _LIMIT)
        return None if pem is None else PrivateKey.from_pem(pem)

    def has_key(self, key_name: Name) -> bool:
        return self._key_path(key_name).exists()

    def _check_directory(self) -> None:
        try:
            mode = stat.S_IMODE(self.path.stat().st_mode)
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from error
        if mode & 0o022:
            raise StorageError(
                f"key directory {self.path} can be changed by others (mode {mode:04o})", hint=f"chmod 700 {self.path}"
            )

    def _read_certificate(self, path: Path) -> Certificate:
        try:
            with path.open("rb") as file:
                return from_text(file.read(_LIMIT).decode("ascii"))
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        except (BadPacket, UnicodeDecodeError) as error:
            raise StorageError(f"{path} holds no certificate: {error}", hint="remove the file") from error

    # ------------------------------------------------------------ writing

    def write_anchor(self, certificate: Certificate) -> None:
        write_at_once(self._anchor, to_text(certificate).encode())

    def write_certificate(self, certificate: Certificate) -> None:
        version = ndn.last_version(certificate.name)
        write_at_once(self._certs / f"{_id(certificate.key_name)}-{version}.cert", to_text(certificate).encode())

    def remove(self, certificate: Certificate) -> None:
        """A certificate and its private key, if they are here."""
        version = ndn.last_version(certificate.name)
        try:
            (self._certs / f"{_id(certificate.key_name)}-{version}.cert").unlink(missing_ok=True)
            self._key_path(certificate.key_name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove keys from {self.path}: {error.strerror}") from error

    def write_key(self, key_name: Name, key: PrivateKey) -> None:
        write_at_once(self._key_path(key_name), key.to_pem())

    def _key_path(self, key_name: Name) -> Path:
        return self._keys / f"{_id(key_name)}.key"


def _id(key_name: Name) -> str:
    return hashlib.sha256(key_name).hexdigest()[:32]
