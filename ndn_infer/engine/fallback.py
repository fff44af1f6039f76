"""Models of other families, computed by transformers' own modules behind the interface of `Llama`.

Owns: running such a model over our pages of KV, and the refusal of models whose cache is not plain keys and values.
Must not know: streams, sampling, blocks.

The pages are the only state: for every call a DynamicCache is laid out from them, and what the model adds to it goes
back. That copies a sequence's KV once a token, but paging, prefix sharing, KV in and out, preemption and cancelling
work as for every other model. Sequences are computed one by one, so a stream's tokens do not depend on the others; a
prompt that is cut otherwise may differ in the last bits, as it does in transformers.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ndn_infer.config import EngineConfig
from ndn_infer.engine.attention import kv_class
from ndn_infer.engine.device import check_device
from ndn_infer.engine.instructions import machine_of
from ndn_infer.engine.kv_cache import KvSequence
from ndn_infer.engine.llama import Advance, Llama
from ndn_infer.engine.model_config import FAMILIES, ModelConfig, refuse_quantised, tokens_of
from ndn_infer.engine.weights import DTYPE_NAMES, DTYPES
from ndn_infer.engine_class import EngineClass, label_of
from ndn_infer.errors import DamagedCache, EngineUnavailable

_HINT = f"choose a model of a family that this engine computes itself: {', '.join(FAMILIES)}"


def load_model(folder: Path, options: EngineConfig) -> Llama | ModuleModel:
    """The model of a prepared folder: in our own forward where that knows the family, else by transformers' modules.

    Raises EngineUnavailable (architecture, device), DamagedCache.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_bytes())
        refuse_quantised(raw)
        architecture = (raw.get("architectures") or ["unknown"])[0]
    except (OSError, ValueError, AttributeError, LookupError) as error:
        raise DamagedCache(f"{path} cannot be used ({type(error).__name__}: {error})") from error
    if architecture in FAMILIES:
        return Llama.load(folder, options)
    return ModuleModel.load(folder, str(architecture), options)


class ModuleModel:
    """A transformers model. Used from one thread, under torch.inference_mode."""

    def __init__(self, model: Any, architecture: str, tokens: int = sys.maxsize) -> None:
        """`tokens`: ids from there on are never chosen, though there may be weights for them.

        Raises EngineUnavailable where the model's cache is more, or less, than keys and values of every token.
        """
        import transformers

        self._model = model.eval()
        self.embedding: Tensor = model.get_input_embeddings().weight
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        name, version = DTYPE_NAMES[self.dtype], transformers.__version__
        machine = machine_of(self.device, self.dtype, packed=False)
        self.row_share = 1.0
        """Rows are computed one by one: see speculation.RowPrice."""
        self.engine_class = EngineClass(name, name, label_of(f"modules-{architecture}-{version}"), "single", machine)
        with torch.inference_mode():
            self.config = _probe(model, architecture, tokens)

    @classmethod
    def load(cls, folder: Path, architecture: str, options: EngineConfig) -> ModuleModel:
        """Raises EngineUnavailable (unknown to transformers, precision, device), DamagedCache."""
        if options.precision != options.dtype:
            raise EngineUnavailable(f"{architecture} cannot be computed with {options.precision} weights", hint=_HINT)
        check_device(options.device)
        try:
            import transformers
        except ImportError as error:
            raise EngineUnavailable(
                f"{architecture} needs transformers, which is not installed", hint="pip install transformers"
            ) from error
        known: Any = getattr(transformers, architecture, None) if architecture.isidentifier() else None
        if not _generates(known):
            raise EngineUnavailable(f"this engine and transformers do not compute {architecture}", hint=_HINT)
        transformers.utils.logging.disable_progress_bar()
        try:
            tokens = tokens_of(folder)
            model = known.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=DTYPES[options.dtype]
            )
        except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, SafetensorError) as error:
            raise DamagedCache(f"{folder} cannot be used ({type(error).__name__}: {error})") from error
        return cls(model.to(options.device), architecture, tokens)

    def kv_class(self, end: int, total: int) -> Hashable:
        """As Llama.kv_class."""
        return kv_class(end, total)

    def prompt(self, ids: Tensor, cache: KvSequence, total: int) -> Tensor:
        """The next tokens `ids` [n] of a prompt: what `logits` takes, [1, vocab], of the last of them."""
        return self._run(ids, cache, keep=1)

    def begin(self, ids: Tensor, cache: KvSequence, total: int, *, every: bool = False) -> Advance:
        """As Llama.begin. transformers' modules compute all layers or none, so this waits for the last one; and they
        give logits, which with `every` are held for a whole chunk of a prompt."""
        keep = 0 if every else 1
        return lambda upto: self._run(ids, cache, keep=keep) if upto >= self.config.layers else None

    def rows(self, batch: Sequence[tuple[KvSequence, Sequence[int]]]) -> Tensor:
        """The next tokens of several sequences, one token after another: what `logits` takes, [rows, vocab]."""
        return torch.cat([self.decode(token, cache) for cache, tokens in batch for token in tokens])

    def decode(self, token: int, cache: KvSequence) -> Tensor:
        """One more token: what `logits` takes, [1, vocab]."""
        return self._run(torch.tensor([token], device=self.device), cache, keep=1)

    def score(self, ids: Tensor, cache: KvSequence) -> Tensor:
        """What `logits` takes, [n, vocab], of every token of a whole sequence; `cache` must be empty."""
        return self._run(ids, cache, keep=0)

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, vocab] float32. Some families scale or bound their logits, so these models compute them at once."""
        return hidden[:, : self.config.vocab_size].float()

    # ------------------------------------------------------------ inside

    def _run(self, ids: Tensor, cache: KvSequence, *, keep: int) -> Tensor:
        start, count = cache.length, int(ids.shape[0])
        cache.reserve(start + count)
        past = _empty_cache(self._model)
        if start:
            table = cache.blocks(start)
            for layer in range(self.config.layers):
                keys, values = cache.pages.read(layer, table)[:, None, :, :start]
                past.update(keys, values, layer)
        out = self._model(ids[None], past_key_values=past, use_cache=True, logits_to_keep=keep)
        slots = torch.tensor(cache.slots(count), device=self.device)
        for layer, kept in enumerate(out.past_key_values.layers):
            cache.pages.write(layer, slots, kept.keys[0, :, start:], kept.values[0, :, start:])
        cache.advance(count)
        logits: Tensor = out.logits[0]
        return logits


def _generates(kind: Any) -> bool:
    from transformers import GenerationMixin

    return inspect.isclass(kind) and issubclass(kind, GenerationMixin)


def _empty_cache(model: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def _probe(model: Any, architecture: str, tokens: int) -> ModelConfig:
    """What the cache looks like, from computing two tokens: configurations name these facts in many ways."""
    from transformers.cache_utils import DynamicLayer

    config = model.config.get_text_config(decoder=True)
    try:
        ids = torch.tensor([[0, 1]], device=model.get_input_embeddings().weight.device)
        layers = model(ids, past_key_values=_empty_cache(model), use_cache=True).past_key_values.layers
        shapes = {(tuple(kept.keys.shape), tuple(kept.values.shape)) for kept in layers}
        (one,) = shapes
        plain = all(type(kept) is DynamicLayer for kept in layers) and one[0] == one[1] and one[0][2] == 2
    except (AttributeError, TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        raise EngineUnavailable(f"{architecture} keeps no keys and values this engine can take", hint=_HINT) from error
    if not plain:
        raise EngineUnavailable(
            f"{architecture} keeps more or less than the keys and values of every token (sliding windows, states)",
            hint=_HINT,
        )
    _, kv_heads, _, head_dim = one[0]
    return ModelConfig(
        layers=len(layers), hidden=int(config.hidden_size), intermediate=0, heads=int(config.num_attention_heads),
        kv_heads=kv_heads, head_dim=head_dim, vocab_size=min(int(config.vocab_size), tokens),
        context_length=int(config.max_position_embeddings), norm_eps=0.0, tied=False, rope={}, head_norm=False,
        windows=(0,) * len(layers),
    )  # fmt: skip
