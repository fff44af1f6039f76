"""The hermes form of tool calls: how a prompt describes tools, how a model writes a call, how it reads a result.

Owns: the tags and the JSON between them, both ways; text that grows, taken apart into text and calls. Pure. Must not
know: templates, tokens, which tools there are, who runs them.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

Models of the families Hermes, Qwen and SmolLM are trained on this form (NousResearch, Hermes Function Calling; the
prompt's words are those of Qwen2.5's chat template).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

OPEN: Final = "<tool_call>"
CLOSE: Final = "</tool_call>"
MAX_HEAD: Final = 512
"""Characters from OPEN to the arguments: what is longer is no call."""
MAX_BLANKS: Final = 256
"""White space that is held back, as a call may follow it."""

_BLANKS: Final = " \t\r\n"
_NAME: Final = re.compile(r'"([^"\\]*)(")?')
_PROMPT: Final = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


# ---------------------------------------------------------------- what a prompt has


def tools_text(tools: Sequence[str]) -> str:
    """What a system prompt says of tools, each the JSON text of an object {"type": "function", "function": ...}."""
    return _PROMPT.format(tools="\n".join(tools))


def call_text(name: str, arguments: str) -> str:
    """A call as a model writes it; `name` and `arguments` are JSON texts, a string and an object."""
    return f'{OPEN}\n{{"name": {name}, "arguments": {arguments}}}\n{CLOSE}'


def result_text(content: str) -> str:
    """The result of a call, part of the user's turn."""
    return f"<tool_response>\n{content}\n</tool_response>"


# ---------------------------------------------------------------- what an answer says


@dataclass(frozen=True, slots=True)
class TextPiece:
    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """Call number `index` of the answer, from 0; its arguments follow."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPiece:
    """A part of the JSON text of an object; all of a call's parts joined are the whole."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """Its arguments are complete."""

    index: int


Piece = TextPiece | CallBegun | ArgumentsPiece | CallEnded


class HermesParser:
    """Takes an answer apart as it grows. However it is cut, the pieces joined are the same.

    What only looks like a call stays text, character by character: another form, or a name that is none of `names`.
    White space before a call, and after the last one, belongs to the form. Of a call that the end of the answer cuts
    off there are the arguments that came, and no CallEnded. Cut off before they begin, it is text, unless another call
    stands right before it: then it is nothing."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held = ""
        """What came and is not told."""
        self._within: Callable[[list[Piece]], bool] = self._text
        self._index = -1
        self._arguments = _Object()
        self._told = False
        """Whether text was told since the last call."""

    def push(self, text: str) -> list[Piece]:
        self._held += text
        pieces: list[Piece] = []
        while self._within(pieces):
            pass
        return pieces

    def finish(self) -> list[Piece]:
        """What was held back, when the answer ends."""
        held, self._held = self._held, ""
        if self._within == self._tail or not held:
            return []
        return [] if self._index >= 0 and not self._told and self._may_begin(held) else [TextPiece(held)]

    def _may_begin(self, held: str) -> bool:
        """Whether a call may begin with it, or nothing at all."""
        begun = held.strip(_BLANKS)
        return self._within == self._head or OPEN.startswith(begun)

    # Where it is: each takes what it can from `_held`, and says whether something else begins there.

    def _text(self, pieces: list[Piece]) -> bool:
        at = self._held.find(OPEN)
        if at >= 0:
            self._within = self._head
        else:  # the end of it may be the beginning of a call
            begun = (size for size in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:size]))
            at = len(self._held) - next(begun, 0)
        blanks = at - len(self._held[:at].rstrip(_BLANKS))
        self._tell(pieces, at - blanks % (MAX_BLANKS + 1))
        return self._within != self._text

    def _head(self, pieces: list[Piece]) -> bool:
        start = self._held.index(OPEN)
        end, name = _head_of(self._held, start + len(OPEN))
        size = (len(self._held) if end == _SHORT else end) - start
        if end == _WRONG or (name and name not in self._names) or size > MAX_HEAD:
            self._within = self._text
            self._tell(pieces, start + len(OPEN))
            return True
        if end == _SHORT:
            return False
        self._index, self._told = self._index + 1, False
        self._held, self._arguments, self._within = self._held[end:], _Object(), self._object
        pieces.append(CallBegun(self._index, name))
        return True

    def _object(self, pieces: list[Piece]) -> bool:
        size = self._arguments.take(self._held)
        if size:
            pieces.append(ArgumentsPiece(self._index, self._held[:size]))
            self._held = self._held[size:]
        if not self._arguments.closed:
            return False
        pieces.append(CallEnded(self._index))
        self._within = self._tail
        return True

    def _tail(self, pieces: list[Piece]) -> bool:
        end = _literals(self._held, 0, ("}", CLOSE))
        if end == _SHORT:
            return False
        if end != _WRONG:
            self._held = self._held[end:]
        self._within = self._text
        return True

    def _tell(self, pieces: list[Piece], size: int) -> None:
        if size:
            pieces.append(TextPiece(self._held[:size]))
            self._held, self._told = self._held[size:], True


class _Object:
    """Where a JSON object ends, in text that comes in pieces: brackets and strings are looked at, nothing else."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False
        self.closed = False

    def take(self, text: str) -> int:
        """How many characters of `text` belong to it."""
        for at, character in enumerate(text, 1):
            if self._quoted:
                self._quoted = self._escaped or character != '"'
                self._escaped = not self._escaped and character == "\\"
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    self.closed = True
                    return at
        return len(text)


_SHORT: Final = -1
"""Instead of a place: so far it is right, and there must be more."""
_WRONG: Final = -2


def _literals(text: str, at: int, parts: Sequence[str]) -> int:
    """The place after all parts, which may have white space before each."""
    for part in parts:
        at = _after_blanks(text, at)
        found = text[at : at + len(part)]
        if not part.startswith(found):
            return _WRONG
        if len(found) < len(part):
            return _SHORT
        at += len(part)
    return at


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def _head_of(text: str, at: int) -> tuple[int, str]:
    """The place at which the arguments of a call begin, and its name."""
    at = _literals(text, at, ("{", '"name"', ":"))
    if at < 0:
        return at, ""
    at = _after_blanks(text, at)
    name = _NAME.match(text, at)
    if name is None or not name[2]:
        short = at == len(text) or (name is not None and name.end() == len(text))
        return (_SHORT if short else _WRONG), ""
    at = _literals(text, name.end(), (",", '"arguments"', ":", "{"))
    return (at - 1 if at >= 0 else at), name[1]
