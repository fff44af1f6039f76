"""Where an engine computes, and what can go wrong there before or while it does.

Owns: whether a device can be used, and a plain error when its memory is not enough. Must not know: models, layers,
streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ndn_infer.errors import EngineUnavailable, ModelError, NdnInferError


def check_device(device: str) -> None:
    """Before anything is computed there. Raises EngineUnavailable."""
    if not device.startswith("cuda"):
        return
    if not torch.cuda.is_available():
        raise EngineUnavailable("no CUDA device can be used here", hint="set engine.device to cpu")
    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise EngineUnavailable(
            f"there is no {device}: CUDA devices here are numbered 0 to {count - 1}", hint="set engine.device to one"
        )
    # cuDNN's attention plans each length of a sequence anew: 1.5 ms a layer of every decoded token.
    torch.backends.cuda.enable_cudnn_sdp(False)


@contextmanager
def room_to_load(device: str) -> Iterator[None]:
    """Around loading. Raises EngineUnavailable where the weights, or the memory for KV, do not fit the device."""
    says = f"the memory of {device} has no room for the weights and engine.kv_memory_mib of KV"
    hint = "set engine.kv_memory_mib lower, or take a smaller model or a device with more free memory"
    with _lack_said_by(lambda: EngineUnavailable(says, hint=hint)):
        yield


@contextmanager
def room_to_compute() -> Iterator[None]:
    """Around a step. Raises ModelError where what it computes with does not fit the device; its memory is given back,
    so that the next streams may fit."""
    says = "the memory of the device is not enough to compute this"
    hint = "set engine.chunk_tokens, engine.max_streams or engine.kv_memory_mib lower"
    with _lack_said_by(lambda: ModelError(says, hint=hint)):
        yield


@contextmanager
def _lack_said_by(error_of: Callable[[], NdnInferError]) -> Iterator[None]:
    """A lack of memory as this error, after what was taken is given back."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_lack(error):
            raise
        _give_back()
        raise error_of() from error


def _is_lack(error: Exception) -> bool:
    """torch says OutOfMemoryError; safetensors and cuBLAS say it in words."""
    return isinstance(error, torch.OutOfMemoryError) or (
        "out of memory" in str(error) or "CUBLAS_STATUS_ALLOC_FAILED" in str(error)
    )


def _give_back() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
