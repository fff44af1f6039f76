"""The offer: what one producer process says it can do now, and how soon.

Owns: the record of an offer and of the hint which prefixes' KV is held. Must not know: how it travels, who chooses
(offers/).

A speed or a time of 0 is unknown: everything here was measured on real work, nothing is configured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from ndn_infer.records.bounds import Amount, AtMost, Between, Count, Label, Size, TokenCount, Uri
from ndn_infer.records.forms import Reply, Request

OFFER: Final = "offer"
"""The topic of the question after it."""
MAX_HINT_BYTES: Final = 512
MAX_OFFERED: Final = 16
"""Functions of one process and identity."""
MAX_ADAPTERS: Final = 64
VALID_S: Final = 240.0
"""An offer ends after so long; a reader believes none for longer, since its maker's clock may be wrong."""


@dataclass(frozen=True, slots=True)
class OfferQuery(Request):
    """What can you do now?"""


@dataclass(frozen=True, slots=True)
class OfferedFunction(Reply):
    """A function and what it works on; `private`: it takes private calls (of which domains is not said)."""

    function: Label
    subject_kind: Label
    subject: Label
    private: bool = False


@dataclass(frozen=True, slots=True)
class HeldPrefixes(Reply):
    """Which prefixes' KV is at hand, roughly: a Bloom filter over chain values of the public domain, one in 2^`rate` of
    them, in blocks of `block_tokens` (offers/prefixes.py). A hint: what is held is verified by name."""

    bits: Annotated[bytes, AtMost(MAX_HINT_BYTES)]
    rate: Annotated[int, Between(0, 32)]
    block_tokens: Annotated[int, Between(1, 1024)]


@dataclass(frozen=True, slots=True)
class ProducerOffer(Reply):
    """One process under one identity. `hint` is the forwarding hint that leads to it, `made_us` and `until_us` are
    microseconds of the Unix epoch: nobody acts on it after `until_us`.

    `engine` is the engine class of what it generates, `codec` that of its KV, `context` the longest prompt with its
    answer. `places`: calls that it works on at once, `free` of them are; `queue` calls wait. `call_s`: how long a call
    has its place, `prompt_s`: from its turn to its first token; `prefill_tps`: prompt tokens a second, `decode_tps`:
    tokens a second of one answer, `fetch_tps`: tokens a second whose KV came by name. `load`: share of the last seconds
    in which it computed.
    """

    max_bytes: ClassVar[int] = 6000
    identity: Uri
    hint: Uri
    made_us: Size
    until_us: Size
    functions: Annotated[tuple[OfferedFunction, ...], AtMost(MAX_OFFERED)]
    adapters: Annotated[tuple[Label, ...], AtMost(MAX_ADAPTERS)] = ()
    engine: Label = ""
    codec: Label = ""
    context: TokenCount = 0
    places: Count = 0
    free: Count = 0
    queue: Count = 0
    call_s: Amount = 0.0
    prompt_s: Amount = 0.0
    prefill_tps: Amount = 0.0
    decode_tps: Amount = 0.0
    fetch_tps: Amount = 0.0
    load: Annotated[float, Between(0, 1)] = 0.0
    held: HeldPrefixes | None = None
