"""A terminal that is one: tmux, typed into and read as a user does.

Owns: the server of one test, its windows. Must not know: what runs in them.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

WITHIN_S = 90.0


class Screen:
    """One window. What is typed and read is what a user types and sees."""

    def __init__(self, socket: Path, name: str) -> None:
        self._socket = socket
        self._name = name

    def type(self, text: str) -> None:
        """A line, and Enter."""
        self._tmux("send-keys", "-t", self._name, "-l", text)
        self.press("Enter")

    def press(self, key: str) -> None:
        """As tmux names it: Enter, C-c, Up."""
        self._tmux("send-keys", "-t", self._name, key)

    def shown(self) -> str:
        """All of it, lines that were scrolled away and wrapped ones whole."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-2000", "-t", self._name).rstrip()

    def until(self, *words: str, count: int = 1, within_s: float = WITHIN_S) -> str:
        """Until each of these is shown so many times."""
        end = time.monotonic() + within_s
        while any(self.shown().count(word) < count for word in words):
            assert time.monotonic() < end, self.shown()
            time.sleep(0.05)
        return self.shown()

    def interrupt(self, words: str, *, count: int) -> None:
        """Ctrl-C until `words` are shown so many times. CPython's readline sees a signal between two keys once it waits
        for the next one; the microseconds before that are as if nothing had been pressed."""
        for _ in range(20):
            self.press("C-c")
            with contextlib.suppress(AssertionError):
                self.until(words, count=count, within_s=3.0)
                return
        raise AssertionError(self.shown())

    def until_prompt(self, within_s: float = WITHIN_S) -> str:
        """Until the last line is an empty prompt."""
        end = time.monotonic() + within_s
        while self.shown().rpartition("\n")[2].strip() != ">":
            assert time.monotonic() < end, self.shown()
            time.sleep(0.05)
        return self.shown()

    def until_ended(self, within_s: float = WITHIN_S) -> None:
        """Until the command has ended, and its window with it."""
        end = time.monotonic() + within_s
        while self._name in self._tmux("list-windows", "-a", "-F", "#{window_name}").split():
            assert time.monotonic() < end, self.shown()
            time.sleep(0.05)

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *arguments], check=True, capture_output=True, text=True, timeout=20
        )
        return done.stdout


class Tmux:
    """Windows of 160 columns and 50 lines."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def open(self, name: str, command: list[str], environment: Mapping[str, str]) -> Screen:
        given = [f"{key}={value}" for key, value in environment.items()]
        line = shlex.join(["env", "-i", *given, "TERM=screen", *command])
        subprocess.run(
            ["tmux", "-S", str(self._socket), "new-window", "-t", "tests", "-n", name, line],
            check=True, capture_output=True, timeout=20,
        )  # fmt: skip
        return Screen(self._socket, name)


def missing() -> str:
    """Why there is no tmux; "" where there is."""
    return "" if shutil.which("tmux") else "tmux is not installed"


@contextlib.contextmanager
def tmux() -> Iterator[Tmux]:
    folder = Path(tempfile.mkdtemp(prefix="tmux-t-"))
    base = ["tmux", "-S", str(folder / "socket")]
    hold = ["new-session", "-d", "-s", "tests", "-n", "hold", "-x", "160", "-y", "50", "cat"]
    subprocess.run([*base, "-f", "/dev/null", *hold], check=True, timeout=20)
    try:
        yield Tmux(folder / "socket")
    finally:
        subprocess.run([*base, "kill-server"], check=False, capture_output=True, timeout=20)
        shutil.rmtree(folder, ignore_errors=True)
