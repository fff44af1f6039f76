"""What a user says in a chat: lines of a terminal with history, or of a pipe; several lines as one; commands.

Owns: where lines come from, how they are put together, what is a command. Must not know: what is done with them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ndn_infer.errors import PromptError
from ndn_infer.records.bounds import MAX_TEXT

PROMPT: Final = "> "
MORE: Final = ". "
HISTORY_LINES: Final = 1000


@dataclass(frozen=True, slots=True)
class ChatCommand:
    """`/name argument`."""

    name: str
    argument: str = ""


def parse(text: str) -> ChatCommand | str:
    """A command, or the question that `text` is: after `//` a question that begins with a slash."""
    if text.startswith("//"):
        return text[1:]
    if not text.startswith("/"):
        return text
    name, _, argument = text[1:].strip().partition(" ")
    return ChatCommand(name, argument.strip())


def together(next_line: Callable[[str], str | None]) -> str | None:
    """One message out of lines: a backslash at the end of one means that it goes on. `next_line` is given the prompt;
    None is the end."""
    parts: list[str] = []
    while (line := next_line(MORE if parts else PROMPT)) is not None:
        if not line.endswith("\\"):
            return "\n".join([*parts, line])
        parts.append(line[:-1])
        if sum(map(len, parts)) > MAX_TEXT:
            break
    return "\n".join(parts) if parts else None


class Lines:
    """Messages of standard input, as a block. On a terminal with editing and history, which `history` keeps (None:
    nothing is kept)."""

    def __init__(self, history: Path | None) -> None:
        self.terminal = sys.stdin.isatty()
        self._history = history if self.terminal else None

    def keep_nothing(self) -> None:
        """From now on what is said is private."""
        self._history = None

    def read(self) -> str | None:
        """The next message; None at the end. Raises PromptError for what is no text, KeyboardInterrupt."""
        try:
            return together(self._typed if self.terminal else self._piped)
        except UnicodeDecodeError as error:
            raise PromptError("this line is not UTF-8 text", hint="convert it with iconv, or set LANG") from error

    def _typed(self, prompt: str) -> str | None:
        try:
            return input(prompt)
        except EOFError:
            return None

    def _piped(self, prompt: str) -> str | None:
        line = sys.stdin.readline(MAX_TEXT + 2)
        return line.removesuffix("\n") if line else None

    def __enter__(self) -> Self:
        if self.terminal:
            with contextlib.suppress(ImportError):
                import readline

                readline.set_history_length(HISTORY_LINES)
                readline.set_auto_history(True)
        if self._history is not None:
            with contextlib.suppress(ImportError, OSError):
                import readline

                readline.read_history_file(self._history)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self._history is None:
            return
        with contextlib.suppress(ImportError, OSError):
            import readline

            self._history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._history, os.O_CREAT | os.O_WRONLY, 0o600))  # for this user alone, from the start
            readline.write_history_file(self._history)
