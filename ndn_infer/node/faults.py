"""Who is left out because of a proven fault: what this machine remembers.

Owns: the file that its processes share, read again when it changed. Must not know: how a fault is proven.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from ndn_infer import clock
from ndn_infer.config import Config
from ndn_infer.errors import BadRecord, StorageError
from ndn_infer.evidence.plain_json import canonical, parse
from ndn_infer.evidence.verdict import FaultBook, KnownFault
from ndn_infer.files import alone_in, read_private, write_at_once
from ndn_infer.records.audit import FoundFault

MAX_FILE: Final = 1 << 20
_MAX_TEXT: Final = 4096


class FaultFile:
    """`faults` beside the keys of a network."""

    def __init__(self, config: Config) -> None:
        self._path = config.keys_dir.parent / "faults"
        self._seen: tuple[int, int] = (0, 0)
        self._book = FaultBook()
        self.heard = FaultBook()
        """Of trusted auditors: kept by this process alone."""

    def of(self, identity: str) -> KnownFault | None:
        """Why this identity is left out now; None where it is not."""
        now_us = clock.wall_us()
        return self._read().of(identity, now_us) or self.heard.of(identity, now_us)

    def why(self, identity: str) -> str:
        """As offers.live.faults.Known.why."""
        fault = self.of(identity)
        return "" if fault is None else fault.words or "a proven fault"

    def told(self, fault: FoundFault) -> None:
        """As offers.live.faults.Known.told."""
        self.heard.add(KnownFault(fault.identity, fault.until_us, fault.verdict, fault.words))

    def all(self) -> list[KnownFault]:
        """Those that hold now, by identity."""
        now_us, known = clock.wall_us(), {**self.heard.faults, **self._read().faults}
        return [known[identity] for identity in sorted(known) if known[identity].until_us > now_us]

    def add(self, fault: KnownFault) -> None:
        """Remember it, for all processes of this machine. Raises StorageError."""
        with alone_in(self._path.parent, "faults.lock"):
            book, now_us = self._read(), clock.wall_us()
            book.faults = {name: known for name, known in book.faults.items() if known.until_us > now_us}
            book.add(fault)
            write_at_once(self._path, canonical([asdict(known) for known in book.faults.values()]))
        self._seen = (0, 0)

    def _read(self) -> FaultBook:
        try:
            status = self._path.stat()
        except OSError:
            return self._book
        if (status.st_mtime_ns, status.st_size) != self._seen:
            self._seen, self._book = (status.st_mtime_ns, status.st_size), self._load()
        return self._book

    def _load(self) -> FaultBook:
        """Raises StorageError for a file that is none of ours."""
        book = FaultBook()
        try:
            for item in parse(read_private(self._path, MAX_FILE, "list of faults") or b"[]", MAX_FILE):
                book.add(_fault(item))
        except BadRecord as error:
            raise StorageError(f"{self._path} is damaged ({error})", hint="remove it, and audit again") from error
        return book


def _fault(value: Any) -> KnownFault:
    kinds = {"identity": str, "until_us": int, "verdict": str, "words": str}
    if type(value) is not dict or set(value) != set(kinds):
        raise BadRecord(f"a fault has {', '.join(kinds)}")
    for name, kind in kinds.items():
        if type(value[name]) is not kind or (kind is str and len(value[name]) > _MAX_TEXT):
            raise BadRecord(f"{name} of a fault is wrong")
    return KnownFault(**value)
