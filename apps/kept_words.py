"""Where a conversation is that no repo keeps, in words.

Owns: these words. Must not know: when they are said.
"""

from __future__ import annotations

from ndn_infer.console.terminal import one_line
from ndn_infer.library.saved import SavedAs


def words_of_unkept(saved: SavedAs, ends: str) -> list[str]:
    """`ends`: what the network's copy ends with."""
    why = one_line(saved.why)
    if saved.file is None:
        return [f"and gone with {ends}, as no repo keeps it ({why}) and it could not be written to this machine"]
    return [
        f"on this machine alone, as no repo keeps it ({why}): {saved.file}",
        "for other machines: ndn-infer repo serve, then go on with it",
    ]
