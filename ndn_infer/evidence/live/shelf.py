"""Suites and scores of this machine: files of its own network, found by their digest, by a name, or as the last one.

Owns: where these files lie, and what a user may call a record: a file, a name, the beginning of its digest, "last",
what a suite is called by its maker. Must not know: what else records say.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.errors import NdnInferError, UsageError
from ndn_infer.evidence.live import vouched as signed
from ndn_infer.evidence.live.vouched import Vouched
from ndn_infer.files import path_of
from ndn_infer.node.node import Node
from ndn_infer.security.keychain import Keychain

log = logging.getLogger(__name__)

SUITE: Final = "suite"
SCORE: Final = "score"
LAST: Final = "last"
MOST_LISTED: Final = 1000
_DIGEST: Final = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True, slots=True)
class Shelf:
    """`node`: None where records are read from files alone."""

    config: Config
    keychain: Keychain
    node: Node | None = None

    @property
    def folder(self) -> Path:
        return self.config.keys_dir.parent / "evaluations"

    def keep(self, topic: str, made: Vouched, beside: Sequence[Vouched] = ()) -> Path:
        """In a file of its own, with what lies `beside` it. Raises StorageError."""
        path = self.folder / topic / f"{_digest_of(made.name)}.ndn"
        self.write(path, (made, *beside))
        return path

    def write(self, path: Path, records: Sequence[Vouched]) -> None:
        """Raises StorageError."""
        signed.write(path, records, self.keychain.certificates())

    def files(self, topic: str) -> list[Path]:
        """Newest first."""
        found = sorted((self.folder / topic).glob("*.ndn"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return found[:MOST_LISTED]

    async def read(self, path: Path, topic: str) -> list[Vouched]:
        """The records of a file, the first of which is of this topic. Raises as vouched.read, UsageError."""
        found = await signed.read(path, self.config, self.keychain)
        if topic_of(found[0]) != topic:
            raise UsageError(f"{path} holds a {topic_of(found[0])}, not a {topic}")
        return found

    async def find(self, reference: str, topic: str) -> list[Vouched]:
        """The record that a user calls so, and those in the same file. Raises UsageError where there is none, and as
        vouched.read and vouched.fetch."""
        path = self._file(reference, topic)
        if path is not None:
            return await self.read(path, topic)
        if reference.startswith("/") and self.node is not None:
            return [await signed.fetch(self.node, reference, topic)]
        if topic == SUITE and (labelled := await self._labelled(reference)):
            return labelled
        raise UsageError(
            f"there is no {topic} {reference!r} here",
            hint=f"a file, a name, the beginning of a digest, or '{LAST}'; 'ndn-infer eval list' shows those here",
        )

    async def _labelled(self, label: str) -> list[Vouched]:
        """The newest suite that its maker called so; a file that cannot be read is none."""
        for path in self.files(SUITE):
            try:
                found = await self.read(path, SUITE)
            except NdnInferError as error:
                log.info("%s is no suite: %s", path, error)
                continue
            if found[0].said.predicate.get("name") == label:
                return found
        return []

    def _file(self, reference: str, topic: str) -> Path | None:
        path = path_of(reference)
        if path.is_file():
            return path
        files = self.files(topic)
        if reference == LAST:
            return files[0] if files else None
        if reference.startswith("/"):
            return self._named(reference, files)
        if not _DIGEST.fullmatch(reference):
            return None
        fitting = [path for path in files if path.stem.startswith(reference)]
        if len(fitting) > 1:
            raise UsageError(f"{len(fitting)} {topic}s begin with {reference}", hint="give more digits")
        return fitting[0] if fitting else None

    def _named(self, uri: str, files: Sequence[Path]) -> Path | None:
        digest = _digest_of(uri)
        return next((path for path in files if path.stem == digest), None)


def topic_of(record: Vouched) -> str:
    return record.said.predicate_type.split(":")[2]


def _digest_of(uri: str) -> str:
    """The last component of a record's name, before its version: "" for what is no such name."""
    base, _ = ndn.split_version(ndn.from_uri(uri))
    parts = ndn.components(base)
    return ndn.component_value(parts[-1]).decode("ascii", "replace") if parts else ""
