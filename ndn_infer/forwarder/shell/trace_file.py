"""A trace of every packet, one JSON line each: what came, what left, what was dropped and why.

Owns: the file and its bound. Must not know: forwarding (pipeline.py tells it).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final, TextIO

from ndn_infer import ndn
from ndn_infer.errors import ConfigError
from ndn_infer.ndn.name import Name

MAX_BYTES: Final = 256 << 20
"""Then the file is renamed to `.1` and begun anew; the older one before it is lost."""


class TraceFile:
    """Call it as a Trace (pipeline.py). `wall_offset_s` makes the forwarder's clock Unix time. Raises ConfigError when
    the file cannot be opened; later failures end the trace, not the forwarder."""

    def __init__(self, path: Path, wall_offset_s: float) -> None:
        self._path = path.expanduser()
        self._offset_s = wall_offset_s
        try:
            self._file: TextIO | None = self._open()
        except OSError as error:
            raise ConfigError(f"cannot write the trace {path}: {error.strerror}") from error

    def __call__(self, now: float, event: str, face_id: int, kind: str, name: Name, why: str) -> None:
        if self._file is None:
            return
        line: dict[str, object] = {
            "time": round(now + self._offset_s, 6), "event": event, "face": face_id, "packet": kind,
            "name": ndn.to_uri(name),
        }  # fmt: skip
        if why:
            line["why"] = why
        try:
            self._file.write(json.dumps(line) + "\n")
            if self._file.tell() > MAX_BYTES:
                self._file.close()
                os.replace(self._path, self._path.with_name(self._path.name + ".1"))
                self._file = self._open()
        except OSError:
            self._file = None

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _open(self) -> TextIO:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")
