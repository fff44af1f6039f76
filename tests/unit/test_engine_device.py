"""A device that lacks memory is a plain error; what else is wrong there stays what it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch

from ndn_infer.engine.device import room_to_compute, room_to_load
from ndn_infer.errors import EngineUnavailable, ModelError, NdnInferError

ROOMS = [(lambda: room_to_load("cuda:0"), EngineUnavailable), (room_to_compute, ModelError)]
LACKS = [
    torch.OutOfMemoryError("no"),
    RuntimeError("CUDA out of memory."),
    RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
]
Room = Callable[[], AbstractContextManager[None]]


@pytest.mark.parametrize(("room", "kind"), ROOMS)
@pytest.mark.parametrize("error", LACKS)
def test_a_lack_of_memory_says_what_to_set(room: Room, kind: type[NdnInferError], error: Exception) -> None:
    with pytest.raises(kind, match="memory of") as caught, room():
        raise error
    assert caught.value.hint is not None and "engine.kv_memory_mib" in caught.value.hint
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(("room", "kind"), ROOMS)
def test_another_error_passes(room: Room, kind: type[NdnInferError]) -> None:
    with pytest.raises(RuntimeError, match="shapes"), room():
        raise RuntimeError("shapes do not fit")
