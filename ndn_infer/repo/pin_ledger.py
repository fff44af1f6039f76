"""Who pinned what in a repo, and how much one role may: a file beside the store.

Owns: that account. Must not know: commands, packets, the store's file. One line for every change, the whole written
anew at the start. A line that a crash of the machine loses makes a pin the operator's.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadName, CallError, StorageError
from ndn_infer.files import append_line, write_at_once
from ndn_infer.ndn.name import Name

log = logging.getLogger(__name__)

ROLE_SHARE: Final = 0.25
"""Of the store's capacity: what one role may pin."""

ALL_SHARE: Final = 0.75
"""What all of them together may pin: the rest is for the operator, and for what is kept while there is room."""

OPERATOR: Final = ""
"""The owner of what nobody else accounts for; has no share."""


class PinLedger:
    """`file` None: for this process only. `capacity` is the store's, bytes. `owner` is an identity (URI)."""

    def __init__(self, file: Path | None, capacity: int, *, role_share: float = ROLE_SHARE) -> None:
        self._file = file
        self._capacity = capacity
        self._role_share = role_share
        self._pins: dict[Name, tuple[str, int]] = {}
        self._used: Counter[str] = Counter()
        if file is not None:
            self._read(file)

    def retain(self, pinned: Iterable[Name], size_of: Callable[[Name], int]) -> None:
        """What is pinned in the store at the start, whatever the file says."""
        known, self._pins = self._pins, {}
        self._used.clear()
        for base in pinned:
            self._put(base, *known.get(base, (OPERATOR, size_of(base))))
        if self._file is not None:
            try:
                write_at_once(self._file, b"".join(_line(base, *item) for base, item in self._pins.items()))
            except StorageError as error:
                log.warning("who pins what is known until this process ends only: %s", error)

    def check(self, owner: str, base: Name, size: int) -> None:
        """Raises CallError when `owner` may not pin `size` bytes under this name."""
        known = self._pins.get(base)
        if owner == OPERATOR or known is not None:
            return  # what is pinned already costs nothing more
        mine, everybody = self._used[owner], self._used.total() - self._used[OPERATOR]
        if mine + size > self._role_share * self._capacity:
            raise CallError(
                f"{owner} has pinned {mine} bytes; {size} more exceed its share of this repo ({self._role_share:.0%})",
                code="quota", hint="delete what is not needed, insert with --no-pin, or sign as the operator",
            )  # fmt: skip
        if everybody + size > ALL_SHARE * self._capacity:
            raise CallError(
                f"roles have pinned {everybody} bytes; {size} more exceed what they may here ({ALL_SHARE:.0%})",
                code="quota", hint="insert with --no-pin, or sign as the operator",
            )  # fmt: skip

    def pin(self, owner: str, base: Name, size: int) -> None:
        """It is pinned now. A newer version stays its first owner's."""
        known = self._pins.get(base)
        self._put(base, known[0] if known is not None else owner, size)
        self._append(_line(base, *self._pins[base]))

    def unpin(self, base: Name) -> None:
        if base in self._pins:
            owner, size = self._pins.pop(base)
            self._used[owner] -= size
            self._append(_line(base))

    def _put(self, base: Name, owner: str, size: int) -> None:
        old = self._pins.pop(base, None)
        if old is not None:
            self._used[old[0]] -= old[1]
        self._pins[base] = (owner, size)
        self._used[owner] += size

    def _append(self, line: bytes) -> None:
        if self._file is None:
            return
        try:
            append_line(self._file, line)
        except OSError as error:
            log.warning("cannot write %s: %s", self._file, error.strerror)

    def _read(self, file: Path) -> None:
        try:
            lines = file.read_bytes().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("cannot read %s: %s; what is pinned counts as the operator's", file, error.strerror)
            return
        for line in lines:
            try:
                uri, *item = json.loads(line)
                base = ndn.from_uri(uri)
                if item:
                    self._put(base, str(item[0]), int(item[1]))
                elif base in self._pins:
                    owner, size = self._pins.pop(base)
                    self._used[owner] -= size
            except (ValueError, TypeError, IndexError, BadName):
                log.warning("a line of %s is damaged: that pin counts as the operator's", file)


def _line(base: Name, *item: str | int) -> bytes:
    return json.dumps([ndn.to_uri(base), *item]).encode() + b"\n"
