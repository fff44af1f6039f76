"""Sentence vectors: a BERT-like encoder, mean pooling, length 1 (all-MiniLM-L6-v2 and its kin).

Owns: texts to vectors. Must not know: what they are compared with, the network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from ndn_infer.errors import DamagedCache, EngineUnavailable

try:
    import torch
except ImportError as error:
    raise EngineUnavailable("text embeddings need torch, which is not installed") from error

BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class ReadTexts:
    """The tokens of some texts, one text after another: how many each has, their ids, the vectors that the last layer
    gives them, float16 [tokens, width]. `cut`: how many texts were longer than the model reads."""

    lengths: tuple[int, ...]
    ids: tuple[int, ...]
    vectors: np.ndarray
    cut: int


class TextEmbedder:
    """Texts longer than the model's own limit (pooling.json, 256 tokens) are cut, as sentence-transformers does."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> TextEmbedder:
        """Raises DamagedCache, EngineUnavailable."""
        try:
            from tokenizers import Tokenizer
            from transformers import AutoModel
            from transformers.utils import logging as transformers_logging
        except ImportError as error:
            raise EngineUnavailable(f"text embeddings need a package that is missing ({error})") from error

        try:
            limit = int(json.loads((folder / "pooling.json").read_bytes())["max_tokens"])
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            transformers_logging.disable_progress_bar()
            model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
        except Exception as error:  # transformers and tokenizers raise many kinds
            raise DamagedCache(f"the embedding model in {folder} cannot be read: {error}") from error
        tokenizer.enable_truncation(limit)
        tokenizer.enable_padding()
        return cls(model, tokenizer)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors [len(texts), width] float32 of length 1."""
        return self.encode_counted(texts)[0]

    def encode_counted(self, texts: Sequence[str]) -> tuple[np.ndarray, int, int]:
        """The vectors, how many tokens were read, and how many texts were cut."""
        tokens = cut = 0
        vectors = np.empty((len(texts), self._width), np.float32)
        for chosen, encoded, mask, hidden in self._batches(texts):
            vectors[chosen] = _pooled(mask, hidden)
            tokens, cut = tokens + int(mask.sum()), cut + sum(bool(item.overflowing) for item in encoded)
        return vectors, tokens, cut

    def encode_tokens(self, texts: Sequence[str]) -> ReadTexts:
        """The vectors of the tokens of each text; their mean is the direction of the text's own vector."""
        ids: list[list[int]] = [[] for _ in texts]
        vectors: list[np.ndarray] = [np.empty(0)] * len(texts)
        cut = 0
        for chosen, encoded, mask, hidden in self._batches(texts):
            for index, item, kept, states in zip(chosen, encoded, mask.bool(), hidden, strict=True):
                ids[index] = [token for token, used in zip(item.ids, item.attention_mask, strict=True) if used]
                vectors[index] = states[kept].half().numpy()
                cut += bool(item.overflowing)
        everything = np.concatenate(vectors) if texts else np.empty((0, self._width), np.float16)
        return ReadTexts(tuple(map(len, ids)), tuple(chain.from_iterable(ids)), everything, cut)

    @property
    def _width(self) -> int:
        return int(self._model.config.hidden_size)

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Any, Any, Any]]:
        """Places of some texts, and what the model makes of them: encodings, mask, last layer. Similar lengths share a
        batch: little is padded."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            yield (chosen, *self._hidden([texts[index] for index in chosen]))

    @torch.inference_mode()
    def _hidden(self, texts: list[str]) -> tuple[Any, Any, Any]:
        encoded = self._tokenizer.encode_batch(texts)
        ids = torch.tensor([item.ids for item in encoded])
        mask = torch.tensor([item.attention_mask for item in encoded])
        return encoded, mask, self._model(input_ids=ids, attention_mask=mask).last_hidden_state


@torch.inference_mode()
def _pooled(mask: Any, hidden: Any) -> np.ndarray:
    """Means over the tokens of each text, of length 1."""
    weights = mask[..., None].float()
    pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    vectors: np.ndarray = torch.nn.functional.normalize(pooled, dim=1).numpy()
    return vectors
