"""Windows: the parts of a passage that are compared with a question.

Owns: where a passage is cut for that. Must not know: vectors. A passage of 900 characters often answers a question in
one sentence, and the vector of the whole dilutes it; so what is embedded are its windows.
"""

from __future__ import annotations

import re
from typing import Final

WINDOW_CHARS: Final = 250

_WINDOW_END: Final = re.compile(r"(?<=[.!?:;])\s+|\n\n+")


def windows(text: str) -> list[str]:
    """Neighbouring sentences and paragraphs of `text` joined up to about WINDOW_CHARS, white space made single; at
    least one window. A longer sentence is a window of its own."""
    found: list[str] = []
    pending = ""
    for part in _WINDOW_END.split(text):
        sentence = " ".join(part.split())
        if pending and len(pending) + len(sentence) > WINDOW_CHARS:
            found.append(pending)
            pending = sentence
        else:
            pending = f"{pending} {sentence}".strip()
    return [*found, pending] if pending or not found else found
