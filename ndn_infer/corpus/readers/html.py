"""HTML, by the parser of lexbor (selectolax).

Owns: which elements are headings, blocks, tables, and which are no text. Must not know: styles, links, scripts. The
tree is walked without recursion, however deep it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ndn_infer.corpus.markup import Block, Heading, Section, sections_of
from ndn_infer.corpus.readers import MAX_EXPANDED, UnreadableFile
from ndn_infer.corpus.readers.table import as_line

_SILENT: Final = frozenset(
    {"script", "style", "template", "noscript", "head", "svg", "math", "iframe", "object", "nav", "select", "textarea"}
)
_BLOCKS: Final = frozenset(
    "address article aside blockquote body dd details dialog div dl dt fieldset figcaption figure footer form header "
    "hr html li main ol p section summary table ul".split()
)
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}


def read(raw: bytes, suffix: str) -> list[Section]:
    """Raises UnreadableFile."""
    from selectolax.lexbor import LexborHTMLParser

    root = LexborHTMLParser(raw).root
    if root is None:
        raise UnreadableFile("no HTML in it")
    return sections_of(_Walk().items(root))


def _steps(root: Any, closed: str = "") -> Iterator[tuple[Any, bool]]:
    """Each node below `root` and itself, when it is entered (True) and when it is left; what is no text is passed over.
    Elements with the tag `closed` are entered only."""
    node, entering = root, True
    while node is not None:
        if node.tag not in _SILENT:
            yield node, entering
            if entering and node.tag != closed:
                if node.first_child is not None:
                    node = node.first_child
                    continue
                yield node, False
        if node.mem_id == root.mem_id:
            break
        entering, node = (True, node.next) if node.next is not None else (False, node.parent)


def _words(cell: Any) -> str:
    """The text of a cell, in one line."""
    texts = (node.text_content or "" for node, entering in _steps(cell) if entering and node.tag == "-text")
    return " ".join(" ".join(texts).split())


class _Walk:
    """One pass over a tree: text is gathered until a block ends."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._size = 0
        self._pre = 0
        self._head: list[str] = []
        """The names of the columns of the table that is being read."""

    def items(self, root: Any) -> Iterator[Block | Heading]:
        """Headings and blocks in reading order."""
        for node, entering in _steps(root, closed="tr"):
            tag = node.tag
            if not entering:
                yield from self._leave(tag)
            elif tag == "-text":
                self._take(node.text_content or "")
            elif tag == "tr":
                yield from self._flush()
                yield from self._row(node)
            else:
                yield from self._enter(tag)
        yield from self._flush()

    def _enter(self, tag: str) -> Iterator[Block | Heading]:
        if tag in _BLOCKS or tag in _HEADINGS or tag == "pre":
            yield from self._flush()
        if tag == "pre":
            self._pre += 1
        elif tag == "br":
            self._text.append("\n")
        elif tag == "table":
            self._head = []

    def _leave(self, tag: str) -> Iterator[Block | Heading]:
        if level := _HEADINGS.get(tag):
            if title := " ".join("".join(self._text).split()):
                yield level, title[:200]
            self._text.clear()
        elif tag == "pre":
            yield from self._flush()
            self._pre = max(0, self._pre - 1)
        elif tag in _BLOCKS:
            yield from self._flush()

    def _take(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_EXPANDED:
            raise UnreadableFile(f"more than {MAX_EXPANDED} characters of text")
        if self._pre:
            self._text.append(text)
        elif text.strip() or (self._text and not self._text[-1].endswith((" ", "\n"))):
            spaced = " ".join(text.split())
            self._text.append((" " * text[:1].isspace() + spaced + " " * text[-1:].isspace()) if spaced else " ")

    def _flush(self) -> Iterator[Block]:
        text = "".join(self._text)
        self._text.clear()
        if self._pre and text.strip():
            yield Block(text.strip("\n"), lines=True)
        elif text.strip():
            yield Block("\n".join(line.strip() for line in text.strip().split("\n")))

    def _row(self, row: Any) -> Iterator[Block]:
        cells, named = [], True
        cell = row.first_child
        while cell is not None:
            if cell.tag in ("td", "th"):
                cells.append(_words(cell))
                named = named and cell.tag == "th"
            cell = cell.next
        self._size += sum(map(len, cells))
        if self._size > MAX_EXPANDED:
            raise UnreadableFile(f"more than {MAX_EXPANDED} characters of text")
        if named and cells and not self._head:
            self._head = cells
        elif line := as_line(self._head, cells):
            yield Block(line, row=True)
