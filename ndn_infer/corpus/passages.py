"""Passages: a folder of texts cut into pieces of one screen each, the same pieces on every machine.

Owns: which files of a folder are read, and how their blocks are merged and split into passages. Must not know: vectors,
digests, names.
"""

from __future__ import annotations

import logging
import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer.corpus.markup import Block, Language, parse_sections
from ndn_infer.errors import StorageError, UsageError

TARGET_CHARS: Final = 900
"""Blocks are merged up to this size. 900 characters of English are about 200 tokens; small embedders read 256."""
MAX_CHARS: Final = 1200
"""No passage text is longer."""
MAX_FILE_BYTES: Final = 64 << 20
MAX_PASSAGES: Final = 500_000

LANGUAGES: Final[dict[str, Language]] = {".md": "markdown", ".markdown": "markdown", ".rst": "rst", ".txt": "plain"}

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")
_FOLDER_HINT: Final = "a corpus is a folder with .txt, .md, .markdown or .rst files in it"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CorpusPassage:
    """One piece of text. `source` is the file's path below the corpus folder ("/" between parts), `title` the headings
    above it joined by " > " (the file's name without suffix where there are none), `text` 1 to MAX_CHARS characters,
    `index` its position in its file before duplicates were removed. Passages sort by (source, index)."""

    source: str
    title: str
    text: str
    index: int

    def __lt__(self, other: CorpusPassage) -> bool:
        return (self.source, self.index) < (other.source, other.index)


def read_passages(folder: Path) -> tuple[CorpusPassage, ...]:
    """Every passage of the texts below `folder`, sorted, without duplicates (same text up to white space; first kept).

    Files and folders whose name starts with a dot are left out. A file that is no text (not UTF-8, or with NUL bytes),
    one whose name is not UTF-8 and a link that leads nowhere are skipped, each with a warning. Raises UsageError when
    `folder` is no folder, holds no text, or holds a link that leads out of it or a file beyond MAX_FILE_BYTES;
    StorageError when something cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint=_FOLDER_HINT)
    root = folder.resolve()
    passages: list[CorpusPassage] = []
    seen: set[str] = set()
    copies = 0
    for source in sorted(_sources(root)):
        text = _read_text(root / source)
        for passage in cut(text, source) if text is not None else ():
            key = " ".join(passage.text.split())
            if key in seen:
                copies += 1
                continue
            seen.add(key)
            passages.append(passage)
        if len(passages) > MAX_PASSAGES:
            raise UsageError(f"{folder} holds more than {MAX_PASSAGES} passages", hint="split it into several corpora")
    if not passages:
        raise UsageError(f"no text in {folder}", hint=_FOLDER_HINT)
    _log.info("%s: %d passages, %d duplicates left out", folder, len(passages), copies)
    return tuple(passages)


def cut(text: str, source: str) -> list[CorpusPassage]:
    """The passages of one text in reading order, duplicates included. `source` is its path; its suffix says how to read
    the text. No two passages overlap; none spans two headings."""
    suffix = os.path.splitext(source)[1].lower()
    stem = os.path.splitext(source.rsplit("/", 1)[-1])[0]
    passages: list[CorpusPassage] = []
    for section in parse_sections(text, LANGUAGES.get(suffix, "plain")):
        title = " > ".join(section.path) or stem
        for piece in _merge(section.blocks):
            passages.append(CorpusPassage(source, title, piece, len(passages)))
    return passages


def _sources(root: Path) -> Iterator[str]:
    """Paths below `root`, with "/" between parts, of the files to read. Links that stay inside are left out: what they
    point at is read where it stands."""

    def refuse(error: OSError) -> None:
        raise StorageError(f"cannot read {error.filename}: {error.strerror}", hint="check its permissions") from error

    for here, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        wanted = [name for name in files if os.path.splitext(name)[1].lower() in LANGUAGES and name[0] != "."]
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


def _read_text(path: Path) -> str | None:
    """The text in a file; None, with a warning, when it holds none."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
    if len(raw) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB", hint="split it into several files")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _log.warning("skipped %s: not UTF-8 text (byte %d); convert it with iconv -t UTF-8", path, error.start)
        return None
    if "\0" in text:
        _log.warning("skipped %s: it holds NUL bytes, so it is not text", path)
        return None
    return text


def _merge(blocks: tuple[Block, ...]) -> Iterator[str]:
    """Pieces of at most MAX_CHARS: neighbouring blocks up to TARGET_CHARS together, larger blocks alone or split."""
    pending = ""
    for block in blocks:
        for part in _split(block):
            joined = f"{pending}\n\n{part}" if pending else part
            if pending and len(joined) > TARGET_CHARS:
                yield _tidy(pending)
                pending = part
            else:
                pending = joined
    if pending.strip():
        yield _tidy(pending)


def _tidy(piece: str) -> str:
    return textwrap.dedent(piece).strip("\n")


def _split(block: Block) -> Iterator[str]:
    """The block itself, or parts of at most MAX_CHARS: code at line ends, its fence repeated; text at sentence ends,
    else of lines or words; a longer word anywhere."""
    if len(block.text) <= MAX_CHARS:
        yield block.text
    elif block.fence:
        first, last = block.fence, _closing(block)
        body = block.text.split("\n")[1:]
        body = body[:-1] if body and body[-1].strip() == last.strip() else body
        room = max(MAX_CHARS - len(first) - len(last) - 2, 1)
        for part in _pack([line + "\n" for line in body], room):
            yield f"{first}\n{part.rstrip()}\n{last}"[:MAX_CHARS]
    else:
        yield from (part.rstrip() for part in _pack(_sentences(block.text), TARGET_CHARS) if part.strip())


def _closing(block: Block) -> str:
    opening = block.fence.lstrip()
    return opening[0] * (len(opening) - len(opening.lstrip(opening[0])))


def _sentences(text: str) -> list[str]:
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _pack(units: list[str], room: int) -> Iterator[str]:
    """Units joined up to `room` characters; a unit beyond it is cut at white space, or anywhere when it has none."""
    pending = ""
    for unit in units:
        while len(unit) > room:
            if pending:
                yield pending
                pending = ""
            end = max(unit.rfind("\n", 1, room), unit.rfind(" ", 1, room)) + 1 or room
            yield unit[:end]
            unit = unit[end:]
        if len(pending) + len(unit) > room:
            yield pending
            pending = ""
        pending += unit
    if pending:
        yield pending
