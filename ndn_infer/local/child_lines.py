"""Lines that processes of an embedded network write to standard error: which are shown, and how.

Owns: reading a child's JSON log lines and plain lines, its last words. Must not know: how children start and end.
Children log in JSON (ndn_infer/console/logs.py), whatever the parent does, so that their lines are told from what
libraries, the interpreter and our own error messages print.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

JSON_LOGS: Final = "--set=log.format=json"
"""The argument with which a child logs in the form that is read here."""

KEPT_LINES: Final = 40


@dataclass(slots=True)
class LastWords:
    """What a child said, in brief: enough to say why it ended."""

    _plain: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    _errors: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))

    def clear(self) -> None:
        self._plain.clear()
        self._errors.clear()

    def add(self, line: str) -> None:
        entry = _entry(line)
        if entry is None:
            self._plain.append(line)
        elif entry.get("level") not in ("debug", "info"):
            self._errors.append(_words(entry))

    def reason(self) -> tuple[str, str]:
        """Why it ended, and what to do next, in its own words: its error message, else the last line of a traceback,
        else what it logged last."""
        lines = [line for line in self._plain if line.strip()]
        for place, line in enumerate(lines):
            if line.startswith("ndn-infer"):
                following = lines[place + 1 : place + 2]
                hint = following[0].strip() if following and following[0].startswith("  ") else ""
                return line.removeprefix("ndn-infer: "), hint
        outdented = [line for line in lines if not line.startswith(" ")]
        return (outdented or list(self._errors) or ["it gave no reason"])[-1], ""


def shown(title: str, line: str, *, ready: bool, as_json: bool) -> str | None:
    """What the parent prints for a child's line; None for nothing. Log lines are always shown: the child writes none
    below its level. Plain lines before it is ready (progress, its error message) are for the last words."""
    entry = _entry(line)
    if as_json:
        if entry is None:
            entry = {"level": "warning" if ready else "debug", "logger": "stderr", "message": line}
            return json.dumps({"process": title, **entry}) if ready and line.strip() else None
        return json.dumps({"process": title, **entry})
    if entry is None:
        return f"[{title}] {line}" if ready and line.strip() else None
    level = str(entry.get("level", "info"))[:1].upper()
    return f"[{title}] {level} {_words(entry)}"


def _words(entry: dict[str, Any]) -> str:
    """The message, and of an exception the line that names it (the whole of it where debugging)."""
    message = str(entry.get("message", ""))
    exception = str(entry.get("exception", "")).strip()
    if not exception:
        return message
    whole = logging.getLogger().isEnabledFor(logging.DEBUG)
    return f"{message}\n{exception}" if whole else f"{message}: {exception.splitlines()[-1]}"


def _entry(line: str) -> dict[str, Any] | None:
    """A log line as ndn_infer/console/logs.py writes it; None for any other."""
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and "message" in entry and "logger" in entry else None
