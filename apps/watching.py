"""What somebody who waits for an answer sees: how it gets on, packets by name.

Owns: lines about a running question, on standard error or in a file. Must not know: how it is answered.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

from ndn_infer import ndn
from ndn_infer.console.terminal import raw, visible
from ndn_infer.errors import StorageError
from ndn_infer.ndn.name import Name
from ndn_infer.records import Progress
from ndn_infer.transport.link.endpoint import Arrival


class Waiting:
    """One line that changes in place on a terminal ("queued, place 2"); lines of their own elsewhere, where asked."""

    def __init__(self, *, lines: bool, quiet: bool) -> None:
        """`lines`: also where standard error is no terminal."""
        self._terminal = sys.stderr.isatty() and not quiet
        self._lines = lines and not self._terminal and not quiet
        self._shown = ""

    def __call__(self, progress: Progress) -> None:
        self.say(words(progress))

    def say(self, text: str) -> None:
        text = visible(text)
        if text == self._shown:
            return
        if self._terminal:
            raw(sys.stderr).write(f"\r  {text:{len(self._shown)}}")
            raw(sys.stderr).flush()
        elif self._lines:
            print(f"  {text}", file=sys.stderr, flush=True)
        self._shown = text

    def over(self) -> None:
        """Clear the line: the answer begins."""
        if self._shown and self._terminal:
            raw(sys.stderr).write("\r" + " " * (len(self._shown) + 2) + "\r")
            raw(sys.stderr).flush()
        self._shown = ""


def words(progress: Progress) -> str:
    """ "queued, place 2"; "prefill, block 40 of 190"; "decoding"."""
    if progress.state == "queued":
        return f"queued, place {progress.position + 1}"
    if progress.state == "prefill":
        return f"prefill, block {progress.done_blocks} of {progress.total_blocks}"
    return "decoding" if progress.state == "decode" else progress.state


class PacketTrace:
    """Every Interest and Data by name, one line each. Closed by whoever made it."""

    def __init__(self, path: Path | None = None) -> None:
        """To standard error, or into a new file at `path`. Raises StorageError."""
        self._file: TextIO | None = None
        if path is not None:
            try:
                self._file = path.open("w", encoding="utf-8")
            except OSError as error:
                raise StorageError(f"cannot write {path}: {error.strerror}") from error

    def __call__(self, what: str, name: Name, arrival: Arrival | None) -> None:
        arrow = {"interest": "->", "data": "<-", "nack": "<! Nack"}[what]
        where = ""
        if arrival is not None:
            where = " (Content Store)" if arrival.from_content_store else ""
            where += " (congestion)" if arrival.marked else ""
        print(f"{arrow} {visible(ndn.to_uri(name))}{where}", file=self._file or sys.stderr)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
