"""Conversations that no repo keeps, on the disk of the machine whose user saved them.

Owns: these files: one a name, its newest state, as it was published (in a tenant domain sealed). What is found here is
signed again, so each file has a digest of all that it says. Must not know: the network, what is in a conversation.
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
from ndn_infer.files import alone_in, read_private, write_at_once
from ndn_infer.ndn.name import Name

log = logging.getLogger(__name__)

FOLDER: Final = "conversations"
MOST_FILES: Final = 4096
MOST_VERSION: Final = (1 << 64) - 1
_FORM: Final = b"ndn-infer conversation 2"
_MOST_HEAD: Final = 8192
_HEAD_LINES: Final = 4


@dataclass(frozen=True, slots=True)
class KeptChats:
    """In `folder`; states have `most_bytes` at most. Processes may call at once."""

    folder: Path
    most_bytes: int

    @classmethod
    def of(cls, config: Config, most_bytes: int) -> KeptChats:
        return cls(config.keys_dir.parent / FOLDER, most_bytes)

    def keep(self, base: Name, version: int, content: bytes) -> Path:
        """In the place of an older state. Raises StorageError, UsageError where there are too many, and where a newer
        state is kept, which stays."""
        path = self._path(base)
        with alone_in(self.folder):
            kept = self.find(base)
            if kept is not None and kept[0] > version:
                raise UsageError(f"{path} has a newer state of this conversation")
            if not path.exists() and sum(1 for _ in self.folder.glob("*.chat")) >= MOST_FILES:
                raise UsageError(f"{self.folder} holds {MOST_FILES} conversations", hint="remove old ones")
            write_at_once(path, _head(base, version, content), content)
        return path

    def find(self, base: Name) -> tuple[int, bytes] | None:
        """The version and the content that were kept; None where there are none, and where they are damaged, which is
        logged. Raises StorageError."""
        path = self._path(base)
        raw = read_private(path, self.most_bytes + _MOST_HEAD + 1, "conversation")
        if raw is None:
            return None
        *head, content = raw.split(b"\n", _HEAD_LINES) if len(raw) <= self.most_bytes + _MOST_HEAD else (b"",)
        found = _version(head[2]) if len(head) == _HEAD_LINES else None
        if found is None or raw[: len(raw) - len(content)] != _head(base, found, content):
            log.warning("%s is damaged, and of no use", path)
            return None
        return found, content

    def drop(self, base: Name, version: int) -> None:
        """A repo has this version now. A newer one stays."""
        if not self._path(base).exists():
            return
        try:
            with alone_in(self.folder):
                kept = self.find(base)
                if kept is not None and kept[0] <= version:
                    self._path(base).unlink(missing_ok=True)
        except (StorageError, OSError) as error:
            log.warning("%s cannot be removed: %s", self._path(base), error)

    def _path(self, base: Name) -> Path:
        return self.folder / f"{hashlib.sha256(base).hexdigest()[:32]}.chat"


def _head(base: Name, version: int, content: bytes) -> bytes:
    """Form, name, version, and the SHA-256 of name, version and content: a line each."""
    name, number = ndn.to_uri(base).encode(), str(version).encode()
    digest = hashlib.sha256(b"\n".join((name, number, content))).hexdigest()
    return b"\n".join((_FORM, name, number, digest.encode(), b""))


def _version(text: bytes) -> int | None:
    return found if len(text) <= 20 and text.isdigit() and (found := int(text)) <= MOST_VERSION else None
