"""Quoted material: text of others within a message, marked so that it cannot pass for anything else.

Owns: the mark. Each line begins with it, as in mail, so no text can end its own quotation or begin another.
"""

from __future__ import annotations

from typing import Final

MARK: Final = "> "


def quoted(text: str) -> str:
    """Whatever str.splitlines takes for a line end is one here, as a reader may take it for one too."""
    return "\n".join(MARK + line for line in text.splitlines() or [""])
