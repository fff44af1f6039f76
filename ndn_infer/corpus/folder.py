"""The passages of a folder: which files are read, in which order, and what is kept of them between two readings.

Owns: the walk, duplicates, the bounds on files and passages, the file of what large formats held when they were last
read. Must not know: formats (readers/), how sections are cut (passages.py), vectors.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer.corpus.passages import CorpusPassage, cut
from ndn_infer.corpus.readers import APART, MODULES, VERSION, UnreadableFile, read_sections
from ndn_infer.corpus.readers.apart import ReadingProcess
from ndn_infer.errors import StorageError, UsageError
from ndn_infer.files import write_at_once

MAX_FILE_BYTES: Final = 64 << 20
MAX_PASSAGES: Final = 2_000_000

_FOLDER_HINT: Final = "a corpus is a folder of texts: .md, .rst, .txt, .pdf, .html, .docx, .csv, source code"
_MAX_KEPT: Final = 256 << 20

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class KeptReadings:
    """What was read of files of large formats, by the digest of their bytes: one file for each folder, which holds
    nothing of files that are gone. Damaged or missing, it costs reading them again."""

    path: Path | None = None
    _before: dict[str, list[list[object]]] = field(default_factory=dict)
    _now: dict[str, list[list[object]]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, cache_dir: Path | None) -> KeptReadings:
        if cache_dir is None:
            return cls()
        name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
        kept = cls(Path(cache_dir) / "corpora" / "read" / f"{name}.json")
        try:
            assert kept.path is not None
            if kept.path.stat().st_size <= _MAX_KEPT:
                found = json.loads(kept.path.read_bytes())
                kept._before = found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            pass
        return kept

    def passages(self, key: str, source: str) -> list[CorpusPassage] | None:
        try:
            found = [CorpusPassage(source, *values) for values in self._before[key]]  # type: ignore[arg-type]
        except (KeyError, TypeError):
            return None
        self._now[key] = self._before[key]
        return found

    def keep(self, key: str, passages: list[CorpusPassage]) -> None:
        self._now[key] = [list(astuple(passage)[1:]) for passage in passages]

    def save(self) -> None:
        """Nothing, where the disk does not permit it: it is a saving of time only."""
        if self.path is None or self._now.keys() == self._before.keys():
            return
        wire = json.dumps(self._now).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_at_once(self.path, wire if len(wire) <= _MAX_KEPT else b"{}")
        except (OSError, StorageError) as error:
            _log.warning("what was read is not kept: %s", error)


def read_passages(folder: Path, cache_dir: Path | None = None) -> tuple[CorpusPassage, ...]:
    """Every passage of the files below `folder`, sorted, without duplicates (same text up to white space; first kept).
    With `cache_dir`, files of large formats (PDF, Word, HTML) are read again only when they changed.

    Files and folders whose name starts with a dot are left out. A file that its reader refuses (no text, broken, beyond
    a bound), one whose name is not UTF-8 and a link that leads nowhere are skipped, each with a warning. Raises
    UsageError when `folder` is no folder, holds no text, or holds a link that leads out of it or a file beyond
    MAX_FILE_BYTES; StorageError when something cannot be read; EngineUnavailable when a reader's package is missing.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint=_FOLDER_HINT)
    root = folder.resolve()
    passages: list[CorpusPassage] = []
    seen: set[bytes] = set()
    copies = 0
    kept = KeptReadings.of(root, cache_dir)
    with ReadingProcess() as apart:
        for source in sorted(_sources(root)):
            for passage in _passages_of(root, source, kept, apart):
                key = hashlib.sha256(" ".join(passage.text.split()).encode()).digest()
                if key in seen:
                    copies += 1
                    continue
                seen.add(key)
                passages.append(passage)
            if len(passages) > MAX_PASSAGES:
                what = f"{folder} holds more than {MAX_PASSAGES} passages"
                raise UsageError(what, hint="split it into several corpora")
    kept.save()
    if not passages:
        raise UsageError(f"no text in {folder}", hint=_FOLDER_HINT)
    _log.info("%s: %d passages, %d duplicates left out", folder, len(passages), copies)
    return tuple(passages)


def _passages_of(root: Path, source: str, kept: KeptReadings, apart: ReadingProcess) -> list[CorpusPassage]:
    """Those of one file; none, with a warning, where its reader refuses it."""
    path = root / source
    suffix = path.suffix.lower()
    raw = _bytes_of(path)
    try:
        if MODULES[suffix] not in APART:
            return cut(read_sections(raw, suffix), source)
        key = hashlib.sha256(f"{VERSION}{suffix}{path.stem}".encode() + b"\0" + raw).hexdigest()
        if (before := kept.passages(key, source)) is not None:
            return before
        found = cut(apart.read(path), source)
    except UnreadableFile as error:
        _log.warning("skipped %s: %s", source, error)
        return []
    kept.keep(key, found)
    return found


def _sources(root: Path) -> Iterator[str]:
    """Paths below `root`, with "/" between parts, of the files to read. Links that stay inside are left out: what they
    point at is read where it stands."""

    def refuse(error: OSError) -> None:
        raise StorageError(f"cannot read {error.filename}: {error.strerror}", hint="check its permissions") from error

    for here, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        wanted = [name for name in files if os.path.splitext(name)[1].lower() in MODULES and name[0] != "."]
        for name in folders + wanted:
            path = Path(here, name)
            if path.is_symlink() and not _resolved(path).is_relative_to(root):
                raise UsageError(f"{path} is a link that leads out of {root}", hint="copy the text into the folder")
        for name in wanted:
            path = Path(here, name)
            source = path.relative_to(root).as_posix()
            if not _is_text(source):
                _log.warning("skipped %r: its name is not UTF-8", source)
            elif path.is_symlink() and not path.exists():
                _log.warning("skipped %s: a link that leads nowhere", source)
            elif path.is_file() and not path.is_symlink():
                yield source


def _resolved(path: Path) -> Path:
    """Where a link leads; of one in a circle, the link itself."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
    if len(raw) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB", hint="split it into several files")
    return raw
