"""KV that arrives layer by layer: each layer is computed with what it needs; the numbers are those of whole blocks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from ndn_infer.engine.engine import Engine, Stream  # noqa: E402
from ndn_infer.records.sampling import Sampling  # noqa: E402
from tests.small_llama import GREEDY, load, run, small_model  # noqa: E402

LAYERS = 3
PROMPT = list(range(5, 5 + 61))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


class Arriving:
    """A stream whose blocks are garbage until their layers are supplied."""

    def __init__(self, engine: Engine, ids: list[int], count: int, params: Sampling = GREEDY) -> None:
        self.engine = engine
        self.blocks = [block for _, block in load_like(engine).prefill(ids)][:count]
        self.memory = [torch.full_like(block, float("nan")) for block in self.blocks]
        self.stream = engine.start(ids, params, self.memory, arriving=True)

    def supply(self, layers: int) -> None:
        for block, place in zip(self.blocks, self.memory, strict=True):
            place[:layers] = block[:layers]
        self.engine.supply(self.stream, layers)


ORIGINS: dict[int, Engine] = {}


def load_like(engine: Engine) -> Engine:
    return ORIGINS[id(engine)]


def pair(folder: Path, dtype: str, **options: object) -> tuple[Engine, Engine]:
    """An engine, and another that computes blocks and expectations for it."""
    engine, other = load(folder, dtype=dtype, **options), load(folder, dtype=dtype)
    ORIGINS[id(engine)] = other
    return engine, other


def steps(engine: Engine, count: int = 2) -> list[Stream]:
    return [output.stream for _ in range(count) for output in engine.step()]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("count", [1, 4, 12, 15])
def test_each_layer_waits_for_its_own_kv_only(folder: Path, dtype: str, count: int) -> None:
    engine, other = pair(folder, dtype)
    expected = run(other, other.start(PROMPT, GREEDY, [block for _, block in other.prefill(PROMPT)][:count]))
    arriving = Arriving(engine, PROMPT, count)
    assert steps(engine) == [] and engine.stalled
    computed = engine.counters.prefill_s
    for layers in range(1, LAYERS):
        arriving.supply(layers)
        assert steps(engine) == [] and engine.stalled
        assert engine.counters.prefill_s > computed, "a layer whose KV is there was not computed"
        computed = engine.counters.prefill_s
    arriving.supply(LAYERS)
    assert run(engine, arriving.stream) == expected
    whole = engine.start(PROMPT, GREEDY, arriving.blocks)
    assert run(engine, whole) == expected
    for index in range(arriving.stream.length // 4):
        assert torch.equal(engine.export_block(arriving.stream, index), engine.export_block(whole, index)), index


def test_others_go_on_meanwhile_and_tokens_are_theirs(folder: Path) -> None:
    """Random order of supplies, arrivals, cancellations; too few blocks for all, so that some are preempted."""
    for seed in range(12):
        chance = random.Random(seed)
        engine, other = pair(folder, "fp32", chunk_tokens=8)
        waiting = [
            Arriving(engine, PROMPT[: chance.randrange(20, 60)], chance.randrange(1, 6)) for _ in range(3)
        ]  # fmt: skip
        normal = [engine.start(PROMPT[number:40], GREEDY) for number in range(3)]
        gone = waiting.pop() if chance.random() < 0.5 else None
        if gone is not None:
            steps(engine, chance.randrange(3))
            gone.supply(chance.randrange(LAYERS))
            engine.cancel(gone.stream)
        assert [run(engine, stream) for stream in normal] == [
            run(other, other.start(stream.prompt, GREEDY)) for stream in normal
        ]
        left = [(arriving, layers) for arriving in waiting for layers in range(1, LAYERS + 1)]
        while left:
            arriving, layers = chance.choice(left)
            left = [item for item in left if item[0] is not arriving or item[1] > layers]
            arriving.supply(layers)
            steps(engine, chance.randrange(3))
        for arriving in waiting:
            assert run(engine, arriving.stream) == run(other, other.start(arriving.stream.prompt, GREEDY))
        assert engine.counters.blocks_used == 0


def test_one_that_gives_its_blocks_up_takes_what_has_arrived_again(folder: Path) -> None:
    engine, other = pair(folder, "fp32", kv_memory_mib=1)
    room = engine._scheduler.pool.blocks
    old = engine.start(PROMPT[:20], Sampling(max_tokens=60))
    steps(engine, 3)
    arriving = Arriving(engine, PROMPT, 8)
    arriving.supply(1)
    steps(engine)
    engine._scheduler.pool.allocate(engine._scheduler.pool.free)  # nobody else gets any
    while engine.counters.preemptions == 0:
        assert old.finished is None
        engine.step()
    assert arriving.stream.table == [] and arriving.stream.finished is None
    arriving.supply(2)
    assert run(engine, old) == run(other, other.start(old.prompt, Sampling(max_tokens=60)))
    arriving.supply(3)
    assert run(engine, arriving.stream) == run(other, other.start(PROMPT, GREEDY))
    assert room == engine._scheduler.pool.blocks


def test_what_is_supplied_to_nobody_is_forgotten(folder: Path) -> None:
    engine, other = pair(folder, "fp32")
    arriving = Arriving(engine, PROMPT, 4)
    steps(engine)
    engine.cancel(arriving.stream)
    arriving.supply(2)
    assert engine.idle and engine.counters.blocks_used == 0
    nothing = engine.start(PROMPT[:3], GREEDY, arriving=True)  # it brings nothing along, and waits for nothing
    assert run(engine, nothing) == run(other, other.start(PROMPT[:3], GREEDY))
