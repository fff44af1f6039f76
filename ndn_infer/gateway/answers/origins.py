"""Where something came from, in the few classes that are shown by colour.

Owns: the classes, and which word of a ledger belongs to which. Pure. Must not know: colours, how packets were had.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.transport.objects.ledger import CONTENT_STORE, NETWORK_CACHE, PRODUCER, RECOMPUTED

STORE: Final = "store"
UPSTREAM: Final = "upstream"
HELD: Final = "producer"
COMPUTED: Final = "computed"
MEMORY: Final = "memory"
AGAIN: Final = "recomputed"
REFUSED: Final = "refused"

MEANINGS: Final = {
    STORE: "Content Store of this machine",
    UPSTREAM: "stored in the network: a cache, or a peer that had it",
    HELD: "its producer, which holds it",
    COMPUTED: "computed for you",
    MEMORY: "memory of the decode node",
    AGAIN: "recomputed, since nobody had it",
    REFUSED: "could not be verified, and was not used",
}

_BY_WORD: Final = {
    CONTENT_STORE: STORE, NETWORK_CACHE: UPSTREAM, RECOMPUTED: AGAIN, "Content Store of the decode node": UPSTREAM,
    "its producer": HELD, "decode node's memory": MEMORY, "prefill, computed for this prompt": COMPUTED,
}  # fmt: skip
_MADE: Final = frozenset({"call", "result"})
"""Kinds that a producer makes when somebody asks; all others it holds."""


def origin_of(kind: str, source: str) -> str:
    """The class of a use: its kind's title and its source, as the ledger has them."""
    if source == PRODUCER:
        return COMPUTED if kind in _MADE else HELD
    return _BY_WORD.get(source, UPSTREAM)
