"""Calls of the network's embed function: vectors of texts, and of their tokens.

Owns: these calls and the check of what they answer. Must not know: what vectors are compared with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ndn_infer.errors import BadRecord
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.security.domains import PUBLIC
from ndn_infer.tensors import decode_tensor
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.caller import Caller

if TYPE_CHECKING:
    from ndn_infer.corpus.build import Embedder
    from ndn_infer.corpus.late import TokenVectors

EMBED_BATCH = 64


@dataclass(frozen=True, slots=True)
class Embedding:
    """How texts are embedded: by calls to `embed` of this model, in this domain (its label)."""

    caller: Caller
    model: str
    domain: str = PUBLIC.label

    async def vectors(self, texts: list[str]) -> np.ndarray:
        """Sentence vectors [len(texts), width] f32."""
        return (await self.counted(texts))[0]

    async def counted(self, texts: list[str]) -> tuple[np.ndarray, int]:
        """The same, and how many of the texts were longer than the model reads."""
        answer = await self._call(EmbedRequest(texts=tuple(texts)))
        raw = decode_tensor(answer.tensor)
        if raw.dtype != "f32" or len(raw.shape) != 2 or raw.shape[0] != len(texts):
            raise BadRecord(f"embed answered with {raw.dtype} {raw.shape} to {len(texts)} texts")
        return np.frombuffer(raw.payload, dtype="<f4").reshape(raw.shape), answer.cut

    async def tokens(self, texts: list[str]) -> TokenVectors:
        from ndn_infer.corpus.late import TokenVectors

        answer = await self._call(EmbedRequest(texts=tuple(texts), tokens=True))
        raw = decode_tensor(answer.tensor)
        total = sum(answer.lengths)
        fits = raw.dtype == "f16" and len(raw.shape) == 2 and raw.shape[0] == total == len(answer.ids)
        if not fits or len(answer.lengths) != len(texts) or 0 in answer.lengths:
            raise BadRecord(f"embed answered with {raw.dtype} {raw.shape} to the tokens of {len(texts)} texts")
        bounds = np.cumsum([0, *answer.lengths]).astype(np.int64)
        vectors = np.frombuffer(raw.payload, dtype="<f2").reshape(raw.shape).astype(np.float32)
        return TokenVectors(bounds, np.array(answer.ids, np.uint32).astype(np.int32), vectors)

    def from_threads(self, progress: Callable[[int, int], None] | None = None) -> Embedder:
        """The same for a thread beside the running loop."""
        from ndn_infer.corpus.build import Embedder

        loop = asyncio.get_running_loop()

        def vectors(texts: list[str]) -> np.ndarray:
            return asyncio.run_coroutine_threadsafe(self.vectors(texts), loop).result()

        def tokens(texts: list[str]) -> TokenVectors:
            return asyncio.run_coroutine_threadsafe(self.tokens(texts), loop).result()

        return Embedder(vectors, tokens, progress)

    async def _call(self, request: EmbedRequest) -> TensorRecord:
        return await self.caller.call(Ask(("model", self.model), "embed", request, self.domain), TensorRecord)
