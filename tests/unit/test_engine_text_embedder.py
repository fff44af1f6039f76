"""Sentence vectors equal the obvious computation with transformers."""

from __future__ import annotations

import numpy as np
import pytest

from ndn_infer.engine.text_embedder import TextEmbedder
from ndn_infer.errors import DamagedCache
from ndn_infer.models.store import ModelFolder

pytestmark = pytest.mark.model

TEXTS = [
    "A cat sits on the mat.",
    "A kitten rests on a rug.",
    "The stock market fell by three percent.",
    "",
    "naïve café — 你好 🙂",
    "word " * 400,
    *(f"sentence number {n} " * (n % 7 + 1) for n in range(40)),
]


def obvious(folder: ModelFolder, text: str) -> np.ndarray:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True)
    model = AutoModel.from_pretrained(folder.path, local_files_only=True).eval()
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state[0]
    vector = hidden.mean(0)
    result: np.ndarray = (vector / vector.norm()).numpy()
    return result


def test_vectors(minilm: ModelFolder) -> None:
    vectors = TextEmbedder.load(minilm.path).encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    for index in (0, 1, 2, 3, 4, 5, 11):
        assert np.allclose(vectors[index], obvious(minilm, TEXTS[index]), atol=2e-5), TEXTS[index][:40]
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3


def test_no_texts(minilm: ModelFolder) -> None:
    assert TextEmbedder.load(minilm.path).encode([]).shape == (0, 384)


def test_not_a_model(tmp_path: object) -> None:
    with pytest.raises(DamagedCache):
        TextEmbedder.load(tmp_path)  # type: ignore[arg-type]
