"""A GPU's memory: what an engine takes of it, and a plain error where it is not enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from ndn_infer.errors import EngineUnavailable, ModelError  # noqa: E402
from tests.small_llama import GREEDY, load, run, small_model  # noqa: E402

CONTEXT = 16384


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"), max_position_embeddings=CONTEXT)


@pytest.fixture
def limited(cuda: str) -> Iterator[str]:
    """A device whose share of memory a test may set; the whole of it again afterwards."""
    torch.cuda.empty_cache()
    yield cuda
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def share_of(bytes_: int, device: str) -> float:
    return bytes_ / torch.cuda.get_device_properties(device).total_memory


def test_no_room_to_load_is_a_plain_error(folder: Path, limited: str) -> None:
    taken = torch.cuda.memory_allocated(limited)
    torch.cuda.set_per_process_memory_fraction(share_of(taken + (64 << 20), limited))
    with pytest.raises(EngineUnavailable, match="has no room for the weights and engine.kv_memory_mib") as raised:
        load(folder, device=limited, kv_memory_mib=400)
    assert "engine.kv_memory_mib lower" in raised.value.hint and "\n" not in str(raised.value)
    assert torch.cuda.memory_allocated(limited) <= taken + (4 << 20), "nothing stays behind"
    load(folder, device=limited, kv_memory_mib=8)


def test_no_room_to_compute_is_a_plain_error_and_the_engine_goes_on(folder: Path, limited: str) -> None:
    engine = load(folder, device=limited, kv_memory_mib=100, chunk_tokens=CONTEXT)
    expected = run(engine, engine.start(range(5, 45), GREEDY))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(share_of(torch.cuda.memory_reserved(limited) + (32 << 20), limited))
    stream = engine.start([5 + at % 140 for at in range(CONTEXT - 20)], GREEDY)
    with pytest.raises(ModelError, match="the memory of the device is not enough") as raised:
        run(engine, stream)
    assert "engine.chunk_tokens" in raised.value.hint and "\n" not in str(raised.value)
    engine.cancel(stream)
    assert run(engine, engine.start(range(5, 45), GREEDY)) == expected


def test_weights_lie_there_once_and_idling_takes_nothing(folder: Path, cuda: str) -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(cuda)
    engine = load(folder, device=cuda, kv_memory_mib=16, max_streams=1)
    file = (folder / "model.safetensors").stat().st_size
    assert torch.cuda.memory_allocated(cuda) - before < (17 << 20) + 2 * file
    taken, calls = torch.cuda.memory_allocated(cuda), 0
    while engine.prepare():
        calls += 1
    assert engine.idle and torch.cuda.memory_allocated(cuda) == taken and calls < 10_000
    assert not engine.prepare()
