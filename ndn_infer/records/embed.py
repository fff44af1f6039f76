"""The call that makes vectors of texts or tokens: its request and its answer.

Owns: these two records. Must not know: who makes the call (functions/rag.py, gateway/), who answers it
(functions/embed.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from ndn_infer.records import Reply, Request
from ndn_infer.records.bounds import AtMost, Count, Packed

MAX_EMBED_IDS: Final = 4096
MAX_EMBED_TEXTS: Final = 256
MAX_EMBED_CHARACTERS: Final = 1 << 16
"""Of one text."""
MAX_TEXT_TOKENS: Final = 1 << 16
"""Of all texts of a request for the vectors of tokens."""
MAX_TENSOR: Final = 64 << 20
"""Bytes of the tensor in an answer: MAX_EMBED_IDS rows of 4096 numbers in 4 bytes."""


@dataclass(frozen=True, slots=True)
class EmbedRequest(Request):
    """`ids` for token embeddings of a causal model, `texts` for sentence vectors of a text-embedding model; with
    `tokens`, the vectors of the tokens of these texts."""

    ids: Annotated[tuple[int, ...], Packed(MAX_EMBED_IDS)] = ()
    texts: Annotated[tuple[Annotated[str, AtMost(MAX_EMBED_CHARACTERS)], ...], AtMost(MAX_EMBED_TEXTS)] = ()
    tokens: bool = False


@dataclass(frozen=True, slots=True)
class TensorRecord(Reply):
    """Answer to embed: one tensor in its wire form (tensors.py); `tokens` is how many the model read, 0 where the
    producer does not say; `cut` how many texts were longer than it reads. Where the vectors of tokens were asked for,
    `ids` are those tokens and `lengths` says how many each text has."""

    max_bytes: ClassVar[int] = MAX_TENSOR + 4 * (MAX_TEXT_TOKENS + MAX_EMBED_TEXTS) + 128
    tensor: Annotated[bytes, AtMost(MAX_TENSOR)]
    tokens: Count = 0
    cut: Count = 0
    ids: Annotated[tuple[int, ...], Packed(MAX_TEXT_TOKENS)] = ()
    lengths: Annotated[tuple[int, ...], Packed(MAX_EMBED_TEXTS)] = ()
