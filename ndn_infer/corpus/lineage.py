"""Which index a folder had last: where a new one takes over what has not changed, and the old one goes.

Owns: the files below `<cache>/corpora/folders`. Must not know: what is in an index.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer.errors import StorageError
from ndn_infer.files import write_at_once

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Lineage:
    """The indexes of one folder by one embedder, as far as this machine made them. Those with tokens are a line of
    their own: a ranking that takes none does not keep them, so rankings in turn would embed all each time."""

    corpora: Path
    name: str

    @classmethod
    def of(cls, corpora: Path, folder: Path, embedder_id: str, *, tokens: bool) -> Lineage:
        key = os.fsencode(folder.resolve()) + b"\0" + embedder_id.encode() + b"\0tokens" * tokens
        return cls(corpora, hashlib.sha256(key).hexdigest()[:32])

    @property
    def journal(self) -> Path:
        return self.corpora / "folders" / f"{self.name}.journal"

    def newest(self) -> str:
        """The digest of the corpus that the folder was last; "" when it was none."""
        return _read(self._path)

    def replace(self, digest: str) -> None:
        """The folder is this corpus now. The index of the one before is removed, unless another folder is it."""
        before = self.newest()
        if before == digest:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_at_once(self._path, digest.encode())
        except (OSError, StorageError):
            return
        if before and before not in map(_read, self._path.parent.glob("*.newest")):
            with contextlib.suppress(OSError):
                shutil.rmtree(self.corpora / before)

    @property
    def _path(self) -> Path:
        return self.corpora / "folders" / f"{self.name}.newest"


def _read(path: Path) -> str:
    try:
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
    return text if _DIGEST.fullmatch(text) else ""
