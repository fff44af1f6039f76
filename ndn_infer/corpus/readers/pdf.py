"""PDF, by pypdf: text by page, headings from the outline.

Owns: pages and their titles. Must not know: fonts, images; a page that is a picture has no text. pypdf bounds what one
stream expands to; the whole is bounded here.
"""

from __future__ import annotations

import io
import re
from typing import Any, Final

from ndn_infer.corpus.markup import Block, Section
from ndn_infer.corpus.readers import MAX_DEPTH, MAX_EXPANDED, MAX_PAGES, UnreadableFile

_PARAGRAPH: Final = re.compile(r"\n\s*\n")
_HYPHENATED: Final = re.compile(r"(?<=[a-z])-\n(?=[a-z])")


def read(raw: bytes, suffix: str) -> list[Section]:
    """A section for each page with text: its headings are those of the outline that begin on it or before it. Raises
    UnreadableFile: encrypted, broken beyond repair, no text in it."""
    import pypdf

    reader = pypdf.PdfReader(io.BytesIO(raw))
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableFile("it is encrypted")
    titles = _titles(reader)
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    size = 0
    for number in range(min(len(reader.pages), MAX_PAGES)):
        for level, title in titles.get(number, ()):
            path = [item for item in path if item[0] < level] + [(level, title)]
        text = _text(reader, number)
        size += len(text)
        if size > MAX_EXPANDED:
            raise UnreadableFile(f"more than {MAX_EXPANDED} characters of text")
        blocks = tuple(Block(part.strip("\n")) for part in _PARAGRAPH.split(text) if part.strip())
        if blocks:
            sections.append(Section(tuple(title for _, title in path), blocks, page=number + 1))
    if not sections:
        raise UnreadableFile("no text in it; scanned pages are pictures")
    return sections


def _text(reader: Any, number: int) -> str:
    """The text of a page, words joined that a line end divides; "" of a page that cannot be read, as the others can."""
    try:
        return _HYPHENATED.sub("", reader.pages[number].extract_text() or "").replace("\0", "")
    except (MemoryError, RecursionError):
        raise
    except Exception:  # pypdf raises many kinds
        return ""


def _titles(reader: Any) -> dict[int, list[tuple[int, str]]]:
    """The outline by page: level and title. An outline that is broken is none."""
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        todo = [(1, item) for item in reversed(reader.outline)]
        while todo:
            level, item = todo.pop()
            if isinstance(item, list):
                todo += [(min(level + 1, MAX_DEPTH), inner) for inner in reversed(item)]
            elif (number := reader.get_destination_page_number(item)) is not None and item.title:
                found.setdefault(number, []).append((level, " ".join(str(item.title).split())[:200]))
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return {}
    return found
