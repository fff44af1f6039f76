"""embed: vectors as named tensors: token embeddings of a causal model, sentence vectors of a text-embedding model.

Owns: both functions. Must not know: retrieval.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from ndn_infer.errors import BadRecord, PromptError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.records import Record
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.security.crypto import Signer
from ndn_infer.tensors import RawTensor, encode_tensor

if TYPE_CHECKING:
    from ndn_infer.engine.text_embedder import TextEmbedder


class EmbedTokens(NamedFunction[EmbedRequest]):
    """Rows of the model's input embedding: [len(ids), width], in the dtype of the weights."""

    function = "embed"
    role = "embed"
    request_type = EmbedRequest
    private = True
    unit_s = 1e-4

    def __init__(self, model: str, folder: Path) -> None:
        self.subject = ("model", model)
        self._folder = folder

    def units(self, request: EmbedRequest) -> float:
        return 10 + len(request.ids)

    async def run(self, request: EmbedRequest, job: Job) -> Record:
        if not request.ids:
            raise PromptError("embed of a causal model takes token ids")
        return TensorRecord(await asyncio.to_thread(embedding_rows, self._folder, request.ids), len(request.ids))


def embedding_rows(folder: Path, ids: tuple[int, ...]) -> bytes:
    """Rows of the embedding matrix as an encoded tensor, read from the weights file without loading the rest.

    Raises BadRecord for ids outside the vocabulary.
    """
    import torch
    from safetensors import safe_open

    from ndn_infer.torch_tensors import raw_of

    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        matrix = weights.get_slice("model.embed_tokens.weight")
        vocabulary = matrix.get_shape()[0]
        if min(ids) < 0 or max(ids) >= vocabulary:
            raise BadRecord(f"token ids of this model are 0 to {vocabulary - 1}")
        rows = torch.cat([matrix[token : token + 1] for token in ids])
    return encode_tensor(raw_of(rows))


class EmbedTexts(NamedFunction[EmbedRequest]):
    """Sentence vectors: [len(texts), width] f32, of length 1; or those of the texts' tokens: [tokens, width] f16."""

    function = "embed"
    role = "embed"
    request_type = EmbedRequest
    private = True

    def __init__(self, model: str, folder: Path) -> None:
        self.subject = ("model", model)
        self._folder = folder
        self._embedder: TextEmbedder | None = None

    async def start(self, host: Host, signer: Signer) -> None:
        from ndn_infer.engine.text_embedder import TextEmbedder

        self._embedder = await asyncio.to_thread(TextEmbedder.load, self._folder)

    def units(self, request: EmbedRequest) -> float:
        """Hundreds of characters."""
        return sum(1 + len(text) / 100 for text in request.texts)

    async def run(self, request: EmbedRequest, job: Job) -> Record:
        assert self._embedder is not None
        if not request.texts:
            raise PromptError("embed of a text model takes texts")
        job.host.counters["texts_embedded"] += len(request.texts)
        if request.tokens:
            read = await asyncio.to_thread(self._embedder.encode_tokens, list(request.texts))
            tensor = RawTensor("f16", read.vectors.shape, read.vectors.astype("<f2", copy=False).tobytes())
            return TensorRecord(encode_tensor(tensor), len(read.ids), read.cut, read.ids, read.lengths)
        vectors, tokens, cut = await asyncio.to_thread(self._embedder.encode_counted, list(request.texts))
        shape = tuple(int(size) for size in vectors.shape)
        return TensorRecord(encode_tensor(RawTensor("f32", shape, vectors.astype("<f4").tobytes())), tokens, cut)
