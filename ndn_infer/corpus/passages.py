"""Passages: the sections of a file cut into pieces of one screen each, the same pieces on every machine.

Owns: how blocks are merged and split into passages. Must not know: folders (folder.py), formats (readers/), vectors,
digests, names.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ndn_infer.corpus.markup import Block, Section

TARGET_CHARS: Final = 900
"""Blocks are merged up to this size. 900 characters of English are about 200 tokens; small embedders read 256."""
MAX_CHARS: Final = 1200
"""No passage text is longer."""
MAX_TITLE: Final = 400

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class CorpusPassage:
    """One piece of text. `source` is the file's path below the corpus folder ("/" between parts), `title` the headings
    above it joined by " > " (the file's name without suffix where there are none), `text` 1 to MAX_CHARS characters,
    `index` its position in its file before duplicates were removed, `page` where it stands (0: no pages). Passages sort
    by (source, index)."""

    source: str
    title: str
    text: str
    index: int
    page: int = 0

    def __lt__(self, other: CorpusPassage) -> bool:
        return (self.source, self.index) < (other.source, other.index)


def cut(sections: Iterable[Section], source: str) -> list[CorpusPassage]:
    """The passages of one file in reading order, duplicates included. `source` is its path. No two passages overlap;
    none spans two headings or pages."""
    stem = os.path.splitext(source.rsplit("/", 1)[-1])[0]
    passages: list[CorpusPassage] = []
    for section in sections:
        title = _unicode(" > ".join(section.path))[-MAX_TITLE:].strip() or stem
        for piece in _merge(section.blocks):
            passages.append(CorpusPassage(source, title, _unicode(piece), len(passages), section.page))
    return passages


def _unicode(text: str) -> str:
    """Without halves of surrogate pairs, which readers of broken files give and no record can hold."""
    return text.encode("utf-8", "replace").decode()


def _merge(blocks: tuple[Block, ...]) -> Iterator[str]:
    """Pieces of at most MAX_CHARS: neighbouring blocks up to TARGET_CHARS together, larger blocks alone or split."""
    pending, after_row = "", False
    for block in blocks:
        for part in _split(block):
            between = "\n" if block.row and after_row else "\n\n"
            joined = f"{pending}{between}{part}" if pending else part
            if pending and len(joined) > TARGET_CHARS:
                yield _tidy(pending)
                pending = part
            else:
                pending = joined
            after_row = block.row
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
    elif block.lines:
        yield from (part.rstrip() for part in _pack(block.text.splitlines(keepends=True), MAX_CHARS) if part.strip())
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
