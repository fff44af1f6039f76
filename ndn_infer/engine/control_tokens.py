"""Control tokens in text: which pieces of it a tokenizer would take for one, and how they stay text.

Owns: what counts as a control token, and the marks that break one. Must not know: tokenizers, templates. Pure.

Control tokens say who speaks and when: they belong to the chat template alone. In the text of messages and passages a
mark is put inside each, the template is rendered, and the tokenizer gets the pieces between the marks, none of which
has a control token but those of the template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from ndn_infer.errors import PromptError

_MARKS: Final = tuple(map(chr, range(0xFDD0, 0xFDF0)))
"""Noncharacters of Unicode: no text that is exchanged has them, so nearly always the first will do."""
_ESCAPED: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u(fdd[0-9a-f]|fde[0-9a-f])")


def is_control(text: str, special: bool) -> bool:
    """Whether an added token of this text is one. Those that are not special in the tokenizer's sense (it shows them)
    are control tokens where they are written as such: <tool_call>, [INST]. Others stand for spaces or words."""
    return len(text) > 1 and (special or (text[0] in "<[{|" and text[-1] in ">]}|"))


def unescaped(text: str) -> str:
    """JSON text in which marks are characters again, where they were written as escapes."""
    return _ESCAPED.sub(lambda match: match[1] + chr(int(match[2], 16)), text)


def texts_within(value: Any) -> Iterator[str]:
    """All texts of a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from texts_within(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_within(inner)


class ControlTokens:
    def __init__(self, tokens: Iterable[str]) -> None:
        self._tokens = sorted(set(tokens), key=lambda token: (-len(token), token))
        either = "|".join(map(re.escape, self._tokens)) or r"(?!)"
        self._found = re.compile(either)
        self._begun = re.compile(f"(?={either})")
        self._prefixes = {token[:size] for token in self._tokens for size in range(1, len(token))}
        self._suffixes = {token[size:] for token in self._tokens for size in range(1, len(token))}
        self._longest = max(map(len, self._tokens), default=0)

    def found(self, text: str) -> list[str]:
        """The control tokens in a text, in order."""
        return self._found.findall(text)

    def mark_for(self, texts: Iterable[str]) -> str:
        """A character that is in none of the texts. Raises PromptError."""
        used = {character for text in texts for character in _MARKS if character in text}
        for mark in _MARKS:
            if mark not in used:
                return mark
        raise PromptError("the text has every noncharacter of Unicode in it")

    def marked(self, text: str, mark: str, *, edges: bool = False) -> str:
        """The text with a mark inside each control token, however they overlap. `edges`: also where one may begin or
        end that is completed by what comes before or after, with the spaces between removed."""
        cuts = {match.start() + 1 for match in self._begun.finditer(text)}
        if edges:
            cuts |= self._edges(text)
        if not cuts:
            return text
        bounds = [0, *sorted(cuts), len(text)]
        return mark.join(text[start:end] for start, end in zip(bounds, bounds[1:], strict=False))

    def marked_within(self, value: Any, mark: str, *, edges: bool = False) -> Any:
        """A JSON value with all its texts marked, keys too."""
        if isinstance(value, str):
            return self.marked(value, mark, edges=edges)
        if isinstance(value, Mapping):
            marked = partial(self.marked_within, mark=mark, edges=edges)
            return {marked(key): marked(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.marked_within(inner, mark, edges=edges) for inner in value]
        return value

    def has_edges(self, text: str) -> bool:
        return bool(self._edges(text))

    def _edges(self, text: str) -> set[int]:
        begin, end = len(text) - len(text.lstrip()), len(text.rstrip())
        cuts = set()
        for size in range(1, min(self._longest, len(text) + 1)):
            cuts |= {at - size + 1 for at in (end, len(text)) if at >= size and text[at - size : at] in self._prefixes}
            cuts |= {at for at in (0, begin) if text[at : at + size] in self._suffixes}
        return cuts
