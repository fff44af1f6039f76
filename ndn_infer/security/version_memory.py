"""The newest version that was seen of names whose older versions must not come back.

Owns: one number a name, in memory and in a file that outlives the process. A record that its signer replaced stays
well signed for ever: whoever kept the old packets can play them back to a reader that trusts signatures alone. Must not
know: packets, who signs what, which names these are (namespace.Kind.lasting).
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections import OrderedDict
from pathlib import Path
from typing import Final

from ndn_infer.errors import StorageError
from ndn_infer.files import locked, write_at_once
from ndn_infer.ndn.name import Name

log = logging.getLogger(__name__)

MAX_NAMES: Final = 1024
"""Of each kind; those seen last stay."""

_MAX_FILE_BYTES: Final = 8 << 20


class VersionMemory:
    """`file` is shared by all processes of a key directory; None: what is seen is known until the process ends.

    A file that cannot be written costs a warning, not the work.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._seen: dict[str, OrderedDict[Name, int]] = {}
        if file is not None:
            self._merge(_read(file))

    def newest(self, kind: str, name: Name) -> int:
        """The newest version seen of this name, -1 for none."""
        names = self._seen.get(kind)
        return names.get(name, -1) if names is not None else -1

    def accept(self, kind: str, name: Name, version: int) -> None:
        """A verified version of this name was used."""
        if version > self.newest(kind, name):
            self._put(kind, name, version)
            self._save()

    def _put(self, kind: str, name: Name, version: int) -> None:
        names = self._seen.setdefault(kind, OrderedDict())
        names[name] = max(version, names.get(name, -1))
        names.move_to_end(name)
        while len(names) > MAX_NAMES:
            names.popitem(last=False)

    def _merge(self, text: str) -> None:
        for line in text.splitlines():
            try:
                kind, encoded, number = line.split(" ")
                name, version = base64.b64decode(encoded, validate=True), int(number)
            except (ValueError, binascii.Error):
                log.warning("%s: a line is damaged and left out", self._file)
                continue
            self._put(kind, name, version)

    def _save(self) -> None:
        if self._file is None:
            return
        try:
            with locked(self._file.with_name(f"{self._file.name}.lock")):
                self._merge(_read(self._file))
                lines = [
                    f"{kind} {base64.b64encode(name).decode()} {version}\n"
                    for kind, names in self._seen.items()
                    for name, version in names.items()
                ]
                write_at_once(self._file, "".join(lines).encode())
        except (StorageError, OSError) as error:
            log.warning("what was seen is known until this process ends only: %s", error)


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_FILE_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        log.warning("cannot read %s: %s", file, error.strerror)
        return ""
