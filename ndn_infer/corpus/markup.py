"""The structure of a text: its headings and its blocks (paragraphs, lists, code).

Owns: the little of Markdown and reStructuredText that decides where a text may be cut. Must not know: files, sizes of
passages, vectors. Not a full parser of either language: what it does not recognise is a paragraph, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Language = Literal["markdown", "rst", "plain"]

_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t](.*))?")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_RST_UNDERLINE: Final = re.compile(r"([=\-`:.'\"~^_*+#])\1*")
_SETEXT_LEVELS: Final = {"=": 1, "-": 2}


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that belong together. `fence` is the opening line of a fenced code block, "" for anything else; `row`: a
    row of a table, in one line; `lines`: code or columns, which may be cut at line ends only."""

    text: str
    fence: str = ""
    row: bool = False
    lines: bool = False

    @property
    def indent(self) -> int:
        """Columns before the first character: deeper blocks belong to the shallower one before them."""
        return len(self.text) - len(self.text.lstrip(" "))


@dataclass(frozen=True, slots=True)
class Section:
    """The blocks below one heading. `path` holds the headings from the outermost to this one; () before the first.
    `page` counts from 1; 0 where the format has no pages."""

    path: tuple[str, ...]
    blocks: tuple[Block, ...]
    page: int = 0


Heading = tuple[int, str]
"""Level (1 is the outermost) and title."""


def parse_sections(text: str, language: Language) -> list[Section]:
    """The sections of `text` in reading order, those without blocks left out.

    Markdown: ATX and one-line setext headings, fences of backticks or tildes (CommonMark 0.31, 4.2, 4.3, 4.5). Both
    others: a title with an underline at least as long, with or without an overline; the order in which the styles
    appear gives the levels (reStructuredText specification, "Sections").
    """
    lines = text.expandtabs(4).splitlines()
    return sections_of(_markdown(lines) if language == "markdown" else _restructured(lines))


def sections_of(items: Iterable[Block | Heading]) -> list[Section]:
    """Blocks below the headings before them. A heading ends all that are not above it."""
    path: list[tuple[int, str]] = []
    sections: list[Section] = []
    blocks: list[Block] = []

    def close() -> None:
        if blocks:
            sections.append(Section(tuple(title for _, title in path), tuple(blocks)))
            blocks.clear()

    for item in items:
        if isinstance(item, Block):
            blocks.append(item)
            continue
        close()
        level, title = item
        while path and path[-1][0] >= level:
            path.pop()
        if title:
            path.append((level, title))
    close()
    return sections


def _markdown(lines: list[str]) -> Iterator[Block | Heading]:
    at = 0
    while at < len(lines):
        if (end := _fence_end(lines, at)) > at:
            yield Block("\n".join(lines[at:end]), fence=lines[at])
            at = end
        elif heading := _ATX.fullmatch(lines[at]):
            yield len(heading[1]), _without_closing(heading[2] or "")
            at += 1
        elif not lines[at].strip():
            at += 1
        else:
            end = _paragraph_end(lines, at, markdown=True)
            if end == at + 2 and (level := _setext_level(lines[at + 1])):
                yield level, lines[at].strip()
            else:
                yield Block("\n".join(line.rstrip() for line in lines[at:end]))
            at = end


def _restructured(lines: list[str]) -> Iterator[Block | Heading]:
    styles: list[str] = []
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        title, style, used = _underlined(lines, at)
        if used:
            if style not in styles:
                styles.append(style)
            yield styles.index(style) + 1, title
            at += used
        else:
            end = _paragraph_end(lines, at, markdown=False)
            yield Block("\n".join(line.rstrip() for line in lines[at:end]))
            at = end


def _without_closing(title: str) -> str:
    """An ATX title without the optional run of # after it, which stands alone or after white space."""
    bare = title.strip().rstrip("#")
    return bare.rstrip() if not bare or bare[-1] in " \t" else title.strip()


def _fence_end(lines: list[str], at: int) -> int:
    """The line after the fenced block that opens at `at`, or `at` when none opens. One without an end runs on."""
    opening = _FENCE.fullmatch(lines[at])
    if opening is None or (opening[1][0] == "`" and "`" in opening[2]):
        return at
    for end in range(at + 1, len(lines)):
        closing = _FENCE.fullmatch(lines[end])
        if closing and closing[1].startswith(opening[1]) and not closing[2].strip():
            return end + 1
    return len(lines)


def _paragraph_end(lines: list[str], at: int, *, markdown: bool) -> int:
    """The line after the last one of the paragraph at `at`: a blank line ends it; in Markdown a heading or fence."""
    end = at + 1
    while end < len(lines) and lines[end].strip():
        if markdown and (_ATX.fullmatch(lines[end]) or _fence_end(lines, end) > end):
            break
        end += 1
        if markdown and end == at + 2 and _setext_level(lines[at + 1]):
            break
    return end


def _setext_level(line: str) -> int:
    text = line.strip()
    return _SETEXT_LEVELS.get(text[0], 0) if len(line) - len(line.lstrip()) < 4 and len(set(text)) == 1 else 0


def _underlined(lines: list[str], at: int) -> tuple[str, str, int]:
    """Title, style and number of lines of the heading at `at`; the number is 0 when there is none."""
    after = [line.rstrip() for line in lines[at : at + 3]] + ["", ""]
    if _is_rule(after[0]) and after[1].strip() and after[2] == after[0] and len(after[1].strip()) <= len(after[0]):
        return after[1].strip(), "over" + after[0][0], 3
    if not after[0].startswith(" ") and _is_rule(after[1]) and len(after[0]) <= len(after[1]):
        return after[0], after[1][0], 2
    return "", "", 0


def _is_rule(line: str) -> bool:
    return len(line) >= 2 and _RST_UNDERLINE.fullmatch(line) is not None
