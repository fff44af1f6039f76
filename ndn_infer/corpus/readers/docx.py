"""Word documents (.docx), by python-docx.

Owns: headings from paragraph styles, tables as rows, the check that the archive does not expand beyond bounds. Must not
know: pages (a .docx has none until it is laid out).
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any, Final

from ndn_infer.corpus.markup import Block, Heading, Section, sections_of
from ndn_infer.corpus.readers import MAX_EXPANDED, UnreadableFile
from ndn_infer.corpus.readers.table import as_line

_HEADING: Final = re.compile(r"(?:heading|Heading|berschrift)\D*([1-9])")
_MAX_PARTS: Final = 10_000


def read(raw: bytes, suffix: str) -> list[Section]:
    """Raises UnreadableFile: no archive, one that expands beyond MAX_EXPANDED, no Word document."""
    import docx

    _check_archive(raw)
    return sections_of(_items(docx.Document(io.BytesIO(raw))))


def _check_archive(raw: bytes) -> None:
    """What the archive says that it expands to; zipfile reads no more of a part than that."""
    try:
        parts = zipfile.ZipFile(io.BytesIO(raw)).infolist()
    except zipfile.BadZipFile as error:
        raise UnreadableFile(f"no Word document ({error})") from error
    if len(parts) > _MAX_PARTS or sum(part.file_size for part in parts) > MAX_EXPANDED:
        raise UnreadableFile(f"it expands to more than {MAX_EXPANDED >> 20} MiB or {_MAX_PARTS} parts")


def _items(document: Any) -> Iterator[Block | Heading]:
    for item in document.iter_inner_content():
        if hasattr(item, "rows"):
            yield from _rows(item)
        elif text := item.text.strip():
            style = (item.style.name if item.style is not None else "") or ""
            if style == "Title":
                yield 1, text[:200]
            elif found := _HEADING.search(style):
                yield int(found[1]) + 1, text[:200]
            else:
                yield Block(text)


def _rows(table: Any) -> Iterator[Block]:
    head: list[str] = []
    for number, row in enumerate(table.rows):
        cells = [" ".join(cell.text.split()) for cell in row.cells]
        if not number and len(table.rows) > 1:
            head = cells
        elif line := as_line(head, cells):
            yield Block(line, row=True)
