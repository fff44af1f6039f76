"""What a client keeps of answers, context records or whole bundles: one file for each, the newest few, in its data
directory.

Owns: files, and how many there are. Must not know: how records are made, what they say.

A file is a bundle (evidence/bundle.py) with the record's packets. It is readable by its owner only: it holds what was
asked, unless it was asked in a tenant domain, where it is sealed as everything else.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.errors import BadPacket, NdnInferError, StorageError, UsageError
from ndn_infer.evidence.bundle import EvidenceBundle, read_bundle
from ndn_infer.evidence.live.contexts import MadeContext
from ndn_infer.files import write_at_once

log = logging.getLogger(__name__)

MOST_KEPT: Final = 256
MOST_BYTES: Final = 64 << 20
"""Of all files; the oldest go."""
MOST_IN_FILE: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class KeptContexts:
    folder: Path

    @classmethod
    def of(cls, config: Config) -> KeptContexts:
        return cls(config.keys_dir.parent / "evidence")

    def keep(self, made: MadeContext) -> Path:
        """Raises StorageError."""
        bundle = EvidenceBundle(made.note)
        bundle.add(*made.wires)
        path = self.folder / f"{made.note.made_us:020d}-{_key(made.note.stream)}.ndn"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {self.folder}: {error.strerror}") from error
        write_at_once(path, bundle.encode())
        self._forget(path)
        return path

    def complete(self, bundle: EvidenceBundle) -> None:
        """All that an answer rests on, in place of its context record alone. Raises StorageError, BadPacket."""
        path = next(reversed(self._of(bundle.note.stream)), None)
        content = bundle.encode()
        if path is not None and len(content) <= MOST_IN_FILE:
            write_at_once(path, content)
            self._forget(path)

    def newest(self) -> EvidenceBundle | None:
        """Of the last answer."""
        return next(filter(None, map(_read, reversed(self._files()))), None)

    def last(self) -> EvidenceBundle:
        """The same, for a user who says `--last`. Raises UsageError where there is none."""
        known = self.newest()
        if known is None:
            raise UsageError(
                "no question is remembered here", hint="'ndn-infer ask' remembers, unless ask.context is 'off'"
            )
        return known

    def of_stream(self, stream: str) -> EvidenceBundle | None:
        """The newest one about this stream, or about another run of its request."""
        try:
            files = self._of(stream)
        except NdnInferError:
            return None
        return next(filter(None, map(_read, reversed(files))), None)

    def _of(self, stream: str) -> list[Path]:
        """Files about this stream, or about other runs of its request, oldest first. Raises BadName."""
        wanted = _key(stream)
        return [path for path in self._files() if path.stem.endswith(wanted)]

    def _files(self) -> list[Path]:
        """Oldest first."""
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix == ".ndn")
        except OSError:
            return []

    def _forget(self, newest: Path) -> None:
        size = count = 0
        for path in reversed(self._files()):
            try:
                size, count = size + path.stat().st_size, count + 1
                if path != newest and (count > MOST_KEPT or size > MOST_BYTES):
                    path.unlink()
            except OSError as error:
                log.debug("%s stays: %s", path, error)


def _read(path: Path) -> EvidenceBundle | None:
    try:
        with path.open("rb") as file:
            return read_bundle(file.read(MOST_IN_FILE))
    except (OSError, BadPacket) as error:
        log.warning("%s cannot be read: %s", path, error)
        return None


def _key(stream: str) -> str:
    """The digest of the request that a stream's name holds: its beginning. Raises BadName."""
    base, _ = ndn.split_version(ndn.from_uri(stream))
    parts = ndn.components(base)
    return ndn.component_value(parts[-1]).hex()[:32] if parts else ""
