"""Source code, by the lexers of Pygments: a section for each class and function.

Owns: which lines belong to which definition. Must not know: any one language; indentation says what lies within what,
as formatted code has it.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.corpus.markup import Block, Section
from ndn_infer.corpus.readers.text import decoded

_LEXED: Final = 2 << 20
"""Characters of a file whose definitions are looked for; a larger one is cut at blank lines only."""
_MAX_LEVELS: Final = 8
_DEFINES: Final = frozenset({"class", "enum", "fn", "func", "function", "impl", "interface", "struct", "trait"})
"""Words that a definition's name follows, for lexers that do not say that it is one."""


def read(raw: bytes, suffix: str) -> list[Section]:
    """Raises UnreadableFile for what is not UTF-8."""
    text = decoded(raw).expandtabs(4)
    lines = text.splitlines()
    starts = _definitions(text, suffix) if len(text) <= _LEXED else {}
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    begun = 0
    for number in [*sorted(starts), len(lines)]:
        if blocks := _blocks(lines[begun:number]):
            sections.append(Section(tuple(name for _, name in path), blocks))
        if number < len(lines):
            begun, (indent, name) = number, starts[number]
            path = [item for item in path if item[0] < indent][: _MAX_LEVELS - 1] + [(indent, name)]
    return sections


def _definitions(text: str, suffix: str) -> dict[int, tuple[int, str]]:
    """Lines on which a class or function is defined: indentation and name. Decorators and comments right above belong
    to it."""
    from pygments.lexers import get_lexer_for_filename
    from pygments.token import Name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_for_filename(f"a{suffix}", stripnl=False, ensurenl=False)
    except ClassNotFound:
        return {}
    lines = text.split("\n")
    found: dict[int, tuple[int, str]] = {}
    line, before = 0, ""
    for kind, value in lexer.get_tokens(text):
        named = kind in Name.Class or kind in Name.Function or (kind in Name and before in _DEFINES)
        before = value.strip() or before
        if named and line < len(lines):
            indent = len(lines[line]) - len(lines[line].lstrip())
            if line not in found and _begins(lines[line], value):
                found[line] = (indent, value.strip()[:80])
        line += value.count("\n")
    return {_above(lines, at): item for at, item in found.items()}


def _begins(line: str, name: str) -> bool:
    """Whether a line reads like a definition: something stands before the name, and no dot or call around it."""
    before = line.split(name, 1)[0].strip()
    return bool(before) and before[-1] not in ".(=,"


def _above(lines: list[str], at: int) -> int:
    while at and lines[at - 1].lstrip().startswith(("@", "#[", "///", "//", "/*", "*")):
        at -= 1
    return at


def _blocks(lines: list[str]) -> tuple[Block, ...]:
    """Runs of lines without a blank one, as code: cut at line ends only."""
    blocks: list[Block] = []
    pending: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            pending.append(line.rstrip())
        elif pending:
            blocks.append(Block("\n".join(pending), lines=True))
            pending = []
    return tuple(blocks)
