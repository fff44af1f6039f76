"""What of a run is answered already, in a file of its own: an interrupted run goes on, a finished one is forgotten.

Owns: this file. Must not know: how anything is asked.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Final

from ndn_infer.errors import BadRecord, StorageError
from ndn_infer.evidence.json_fields import read_object
from ndn_infer.evidence.plain_json import canonical
from ndn_infer.evidence.score import MAX_TEXT_KEPT, ItemOutcome
from ndn_infer.evidence.suite import MAX_ITEMS
from ndn_infer.files import append_line

log = logging.getLogger(__name__)

MAX_LINE: Final = 8 * MAX_TEXT_KEPT + (1 << 17)
MAX_BYTES: Final = 256 << 20


class RunJournal:
    """One line an item, in the order in which they were answered. A last line that is not whole (the machine stopped)
    is not there."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError."""
        self.path = path
        self.outcomes: dict[str, ItemOutcome] = {}
        self.engines: set[str] = set()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._read()
            path.touch(0o600)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error

    @classmethod
    def of(cls, folder: Path, *what: str) -> RunJournal:
        """That of a run of `what`: suite, model and all else that its answers depend on."""
        key = hashlib.sha256(canonical(list(what))).hexdigest()
        return cls(folder / f"{key[:32]}.jsonl")

    def add(self, outcome: ItemOutcome, engine: str) -> None:
        """Raises StorageError."""
        try:
            append_line(self.path, canonical({"engine": engine, "outcome": outcome.as_json()}) + b"\n")
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}") from error

    def over(self, failed: int = 0) -> None:
        """The run is over: forgotten, unless so many items failed, which the next run of the same asks again."""
        if not failed:
            self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        if not self.path.exists() or self.path.stat().st_size > MAX_BYTES:
            self.path.unlink(missing_ok=True)
            return
        for line in self.path.read_bytes().split(b"\n")[:MAX_ITEMS]:
            try:
                given = read_object(line, "line", most=MAX_LINE)
                outcome = ItemOutcome.read(given.object("outcome"))
                self.engines.add(given.text("engine", 128))
            except BadRecord as error:
                if line:
                    log.info("a line of %s is left out: %s", self.path, error)
                continue
            self.outcomes[outcome.id] = outcome
