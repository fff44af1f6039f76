"""A small random Llama, engines of it, and what transformers says that its tokens are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.engine import Engine, Stream  # noqa: E402
from ndn_infer.records.sampling import Sampling  # noqa: E402

GREEDY = Sampling(max_tokens=12)
PROMPTS = [list(range(5, 5 + n)) for n in (1, 2, 15, 16, 17, 33, 40, 77)]


def small_model(
    folder: Path, *, tied: bool = True, tokenizer_of: Path | None = None, seed: int = 3, **changes: object
) -> Path:
    """Its logits lie close together, so that last bits show soon. `changes` of its sizes; with all files but the
    weights of the model in `tokenizer_of`."""
    if tokenizer_of is not None:
        for file in tokenizer_of.iterdir():
            if file.suffix != ".safetensors":
                shutil.copy(file, folder)
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": 151, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    config = transformers.LlamaConfig(**{**sizes, **changes}, tie_word_embeddings=tied, initializer_range=0.3)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def load(folder: Path, **options: object) -> Engine:
    return Engine.load(folder, EngineConfig(**{"dtype": "fp32", "chunk_tokens": 16, "block_tokens": 4, **options}))  # type: ignore[arg-type]


def run(engine: Engine, stream: Stream) -> list[int]:
    while stream.finished is None:
        engine.step()
    return stream.generated


def oracle(folder: Path, ids: Sequence[int], count: int = 12, dtype: str = "float32") -> list[int]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    out = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
        max_new_tokens=count, min_new_tokens=count, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    tokens: list[int] = out[0, len(ids) :].tolist()
    return tokens
