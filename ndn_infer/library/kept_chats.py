"""Conversations that no repo keeps, on the disk of the machine whose user saved them.

Owns: these files: one a name, its newest state, as it was published (in a tenant domain sealed). Must not know: the
network, what is in a conversation.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.errors import StorageError, UsageError
from ndn_infer.files import read_private, write_at_once
from ndn_infer.ndn.name import Name

log = logging.getLogger(__name__)

FOLDER: Final = "conversations"
MOST_FILES: Final = 4096
_FORM: Final = b"ndn-infer conversation 1"
_MOST_HEAD: Final = 8192


@dataclass(frozen=True, slots=True)
class KeptChats:
    """In `folder`; states have `most_bytes` at most."""

    folder: Path
    most_bytes: int

    @classmethod
    def of(cls, config: Config, most_bytes: int) -> KeptChats:
        return cls(config.keys_dir.parent / FOLDER, most_bytes)

    def keep(self, base: Name, version: int, content: bytes) -> Path:
        """In the place of an older state. Raises StorageError, UsageError where there are too many."""
        path = self._path(base)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists() and sum(1 for _ in self.folder.glob("*.chat")) >= MOST_FILES:
                raise UsageError(f"{self.folder} holds {MOST_FILES} conversations", hint="remove old ones")
        except OSError as error:
            raise StorageError(f"cannot use {self.folder}: {error.strerror}") from error
        head = b"\n".join((_FORM, ndn.to_uri(base).encode(), str(version).encode(), b""))
        write_at_once(path, head, content)
        return path

    def find(self, base: Name) -> tuple[int, bytes] | None:
        """The version and the content that were kept; None where there are none, and where they are damaged, which is
        logged. Raises StorageError."""
        path = self._path(base)
        raw = read_private(path, self.most_bytes + _MOST_HEAD + 1)
        if raw is None:
            return None
        form, _, rest = raw.partition(b"\n")
        name, _, rest = rest.partition(b"\n")
        version, _, content = rest.partition(b"\n")
        whole = len(raw) <= self.most_bytes + _MOST_HEAD and len(version) <= 20 and version.isdigit()
        if not whole or form != _FORM or name != ndn.to_uri(base).encode():
            log.warning("%s is damaged, and of no use", path)
            return None
        return int(version), content

    def drop(self, base: Name) -> None:
        """A repo has it now."""
        try:
            self._path(base).unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed: %s", self._path(base), error.strerror)

    def _path(self, base: Name) -> Path:
        return self.folder / f"{hashlib.sha256(base).hexdigest()[:32]}.chat"
