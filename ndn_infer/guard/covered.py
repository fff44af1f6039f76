"""What a verdict covers: a digest over the answer up to some event, so that a verdict fits one answer alone.

Owns: this digest. Must not know: who computes it: guard and reader do, and compare.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

_SEED = b"ndn-infer verdict 1\0"


class Covered:
    """Grows event by event. `answer` is the stream's URI, with version."""

    def __init__(self, answer: str) -> None:
        self._digest = hashlib.sha256(_SEED + answer.encode() + b"\0")
        self.tokens = 0
        self.events = 0

    def add(self, ids: tuple[int, ...], text: str) -> str:
        """One more event: the digest of all so far."""
        said = text.encode("utf-8", "surrogatepass")
        self._digest.update(struct.pack(f"<II{len(ids)}I", len(ids), len(said), *ids) + said)
        self.tokens += len(ids)
        self.events += 1
        return self._digest.hexdigest()


def digest_of_texts(texts: Iterable[str]) -> str:
    """That of a verdict on texts (TextVerdict)."""
    made = hashlib.sha256()
    for text in texts:
        said = text.encode("utf-8", "surrogatepass")
        made.update(struct.pack("<I", len(said)) + said)
    return made.hexdigest()
