"""Text on its way to a terminal: what others wrote can be read there, and cannot command it.

Owns: the one border at which control characters become visible text. Names, answers, passages and error messages come
from the network, whoever signed them; an escape sequence in one could rewrite the screen or the clipboard. Must not
know: what is printed.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final, TextIO, cast

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and those that change the direction of text."""


def visible(text: str) -> str:
    """`text` with every control character as \\uXXXX, which is also what JSON calls it."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """`visible`, and without line ends: for messages, where a line of its own would look like one of ours."""
    return " ".join(visible(text).split("\n"))


class SafeStream:
    """A text stream that writes `visible` text only; everything else is the stream's own. Characters that its encoding
    does not have are written as escapes, so that an answer is never lost in the middle."""

    def __init__(self, stream: TextIO) -> None:
        self.raw = stream
        with contextlib.suppress(AttributeError, ValueError, OSError):
            cast(Any, stream).reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        self.raw.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def raw(stream: TextIO) -> TextIO:
    """The stream itself, for what draws with control characters of its own (a progress bar)."""
    return stream.raw if isinstance(stream, SafeStream) else stream


@contextlib.contextmanager
def safe_output() -> Iterator[None]:
    """Standard output and standard error write visible text only, until the block ends."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, SafeStream(raw(out))), cast(TextIO, SafeStream(raw(err)))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
