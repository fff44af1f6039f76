"""The receipts of answers that were read on this machine, in a bounded file of its network.

Owns: that file: a line an answer, the oldest half given up when it is full. Must not know: prices, sums
(evidence/receipts.py).

A receipt is written where it was verified, as part of the answer. Several processes of one user write to one file. What
cannot be written is not worth an answer: it is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ndn_infer import files
from ndn_infer.config import Config
from ndn_infer.errors import BadRecord, StorageError
from ndn_infer.evidence.receipts import MAX_LINE, KeptReceipt, read_line, write_line

log = logging.getLogger(__name__)

NAME: Final = "receipts.jsonl"


class ReceiptJournal:
    """`most_bytes`: of the file and the older one beside it, together."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self._most = most_bytes
        self._warned = False

    @classmethod
    def of(cls, config: Config) -> ReceiptJournal | None:
        """None where none is to be kept."""
        most = config.ask.receipts_mib << 20
        return cls(config.keys_dir.parent / NAME, most) if most else None

    def add(self, entry: KeptReceipt) -> None:
        try:
            line = write_line(entry)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.locked(self.path.with_suffix(".lock")):
                if self.path.exists() and self.path.stat().st_size > self._most // 2:
                    self.path.replace(self.older)
                files.append_line(self.path, line)
        except (OSError, BadRecord) as error:
            if not self._warned:
                log.warning("receipts are not kept: %s", error)
            self._warned = True

    @property
    def older(self) -> Path:
        return self.path.with_name(f"older-{NAME}")


def receipts_in(path: Path) -> Iterator[KeptReceipt]:
    """The entries of a file, in order. A last line that is not whole is left out. Raises StorageError, BadRecord with
    the number of the line."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
                if not line.endswith(b"\n") and len(line) <= MAX_LINE:
                    return
                try:
                    yield read_line(line)
                except BadRecord as error:
                    raise BadRecord(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
