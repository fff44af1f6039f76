"""Many streams in one engine: their company changes no token and no bit, only how soon they come."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.engine import Engine, Stream  # noqa: E402
from ndn_infer.errors import Busy, ModelError, PromptError  # noqa: E402
from ndn_infer.records.sampling import Sampling  # noqa: E402
from tests.small_llama import GREEDY, load, oracle, run, small_model  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def story(number: int, length: int) -> list[int]:
    """Prompts of which some begin alike."""
    return [5 + (at * (7 + number % 3) + (number if at >= 16 else 0)) % 140 for at in range(length)]


@pytest.mark.parametrize(("dtype", "weights"), [("fp32", ""), ("bf16", ""), ("bf16", "int8"), ("bf16", "int4")])
def test_company_changes_no_token_and_no_bit(folder: Path, dtype: str, weights: str) -> None:
    """Random arrivals, cancellations, too little memory, shared beginnings: tokens, their probabilities and the KV are
    those of a stream alone, bit for bit."""
    options = {"dtype": dtype, "weights": weights}
    alone = load(folder, sharing="off", **options)
    crowded = load(folder, max_streams=5, kv_memory_mib=1, chunk_tokens=8, **options)
    room = crowded.counters.blocks_free
    crowded._scheduler.pool.allocate(room - 24)  # so that five streams do not fit
    dice = random.Random(f"{dtype}{weights}")
    wanted = [(story(number, dice.randrange(1, 50)), dice.randrange(1, 36)) for number in range(12)]
    if dtype == "bf16":
        wanted += [(wanted[0][0], 20)] * 2  # prompts shorter than 512 tokens share in bf16 when they are equal
    streams: list[Stream] = []
    said: dict[Stream, list[float]] = {}
    cancelled = set()
    while len(streams) < len(wanted) or any(stream.finished is None for stream in streams):
        if len(streams) < len(wanted) and dice.random() < 0.4:
            ids, count = wanted[len(streams)]
            streams.append(crowded.start(ids, Sampling(max_tokens=count, temperature=0.8, seed=len(streams))))
        if streams and dice.random() < 0.02:
            cancelled.add(streams[-1])
            crowded.cancel(streams[-1])
        for output in crowded.step():
            said.setdefault(output.stream, []).append(output.logprob)
    assert crowded.counters.preemptions and crowded.counters.tokens_recomputed
    assert crowded.counters.blocks_used == room - 24 and crowded.counters.streams_active == 0
    for number, (stream, (ids, count)) in enumerate(zip(streams, wanted, strict=True)):
        single = alone.start(ids, Sampling(max_tokens=count, temperature=0.8, seed=number))
        logprobs = []
        while single.finished is None:
            logprobs += [output.logprob for output in alone.step()]
        assert stream.generated == single.generated[: len(stream.generated)], number
        assert said.get(stream, []) == logprobs[: len(stream.generated)], number
        assert stream in cancelled or stream.finished == single.finished
    last = [stream for stream in streams if stream not in cancelled][-1]
    again = alone.start(
        last.prompt, Sampling(max_tokens=len(last.generated), temperature=0.8, seed=streams.index(last))
    )
    run(alone, again)
    for index in range(last.length // 4):
        assert torch.equal(crowded.export_block(last, index), alone.export_block(again, index)), index


def test_streams_with_equal_beginnings_share_blocks(folder: Path) -> None:
    engine = load(folder, sharing="near", chunk_tokens=64)
    first = engine.start(story(0, 40), GREEDY)
    engine.step()
    others = [engine.start([*story(0, 30), 9 + number], GREEDY) for number in range(3)]
    engine.step()
    assert engine.counters.tokens_shared == 3 * 20, "5 blocks of 4: 8 rows of a prompt are computed at least"
    assert all(other.table[:5] == first.table[:5] for other in others)
    for stream in (first, *others):
        assert run(engine, stream) == oracle(folder, stream.prompt)
    longer = [*first.prompt, *first.generated, 11, 12, 13]
    assert run(engine, engine.start(longer, GREEDY)) == oracle(folder, longer), "what was generated is shared as well"
    assert engine.counters.tokens_shared == 3 * 20 + 44


def test_exact_sharing_keeps_apart_what_may_differ_in_bits(folder: Path) -> None:
    engine = load(folder)
    run(engine, engine.start(story(0, 40), GREEDY))
    run(engine, engine.start(story(0, 41), GREEDY))
    assert engine.counters.tokens_shared == 0
    run(engine, engine.start(story(0, 40), GREEDY))
    assert engine.counters.tokens_shared == 32


def test_an_answer_with_penalties_goes_on_at_any_position(folder: Path) -> None:
    """In another engine, which is told how much of its prompt is answer: without that the penalties are others."""
    engine, other = load(folder), load(folder)
    params = Sampling(
        max_tokens=20, temperature=0.9, seed=5, repetition_penalty=1.3, frequency_penalty=1.5, presence_penalty=0.5
    )
    ids = story(0, 21)
    whole = run(engine, engine.start(ids, params))
    differ = 0
    for made in range(1, 20):
        rest = replace(params, max_tokens=20 - made)
        assert run(other, other.start([*ids, *whole[:made]], rest, answered=made)) == whole[made:]
        differ += run(other, other.start([*ids, *whole[:made]], rest)) != whole[made:]
    assert differ > 5


@pytest.mark.parametrize("sharing", ["exact", "near"])
def test_streams_of_another_salt_share_nothing(folder: Path, sharing: str) -> None:
    engine = load(folder, sharing=sharing)
    expected = run(engine, engine.start(story(0, 40), GREEDY))
    for salt in ("tenant", "other"):
        shared = engine.counters.tokens_shared
        assert run(engine, engine.start(story(0, 40), GREEDY, cache_salt=salt)) == expected
        assert engine.counters.tokens_shared == shared, salt
        run(engine, engine.start(story(0, 40), GREEDY, cache_salt=salt))
        assert engine.counters.tokens_shared == shared + 32


def test_every_block_boundary_is_a_place_to_move(folder: Path) -> None:
    """KV out of one engine and into another, at each boundary, while both have other streams."""
    here, there = load(folder), load(folder, chunk_tokens=8)
    ids = story(1, 41)
    expected = oracle(folder, ids)
    stream = here.start(ids, GREEDY)
    company = [engine.start(story(2, 60), GREEDY) for engine in (here, there)]
    assert run(here, stream) == expected
    tokens = [*ids, *expected]
    for index in range((len(tokens) - 2) // 4):
        blocks = [here.export_block(stream, at) for at in range(index + 1)]
        known = max(len(ids), len(blocks) * 4 + 1)
        moved = there.start(tokens[:known], Sampling(max_tokens=len(tokens) - known), blocks)
        assert [*tokens[:known], *run(there, moved)] == tokens
    assert [run(engine, other) for engine, other in zip((here, there), company, strict=True)] == [
        oracle(folder, story(2, 60))
    ] * 2


def test_prompts_without_answers_take_turns_with_streams(folder: Path) -> None:
    engine = load(folder, chunk_tokens=8)
    talking = engine.start([5, 6], Sampling(max_tokens=60))
    engine.step()
    wanted = [engine.start_prefill(story(number, 50)) for number in range(3)]
    got: dict[Stream, list[int]] = {stream: [] for stream in wanted}
    while any(stream.finished is None for stream in wanted):
        assert [output.stream for output in engine.step()] == [talking]
        for stream in wanted:
            for index, block in engine.take_blocks(stream):
                got[stream].append(index)
                assert block.shape == (3, 2, 2, 4, 16)
    assert all(indices == list(range(12)) for indices in got.values())
    assert engine.counters.blocks_used == len(talking.table)


def test_what_prefill_computes_meanwhile_is_not_lost(folder: Path) -> None:
    engine = load(folder, chunk_tokens=8)
    talking = engine.start([5, 6], GREEDY)
    assert len(list(engine.prefill(story(0, 50)))) == 12
    seen = []
    while talking.finished is None:
        engine.step()
    engine = load(folder, chunk_tokens=8)
    talking = engine.start([5, 6], GREEDY)
    for _ in engine.prefill(story(0, 50)):
        seen += [output.token_id for output in engine.step()]
    while talking.finished is None:
        seen += [output.token_id for output in engine.step()]
    assert seen == talking.generated and len(seen) == 12


def test_too_many_and_too_large(folder: Path) -> None:
    engine = load(folder, max_streams=1, queue_limit=1)
    first, second = (engine.start([5], GREEDY) for _ in range(2))
    with pytest.raises(Busy):
        engine.start([5], GREEDY)
    assert (engine.counters.streams_active, engine.counters.waiting) == (0, 2)
    engine.step()
    engine.cancel(second)
    assert (engine.counters.streams_active, engine.counters.waiting) == (1, 0)
    run(engine, first)
    assert engine.counters.blocks_used == 0 and engine.idle
    tiny = load(folder, kv_memory_mib=1)
    tiny._scheduler.pool.blocks = 4
    with pytest.raises(PromptError, match="holds 16"):
        tiny.start(list(range(5, 15)), GREEDY)
    assert len(run(tiny, tiny.start(list(range(5, 10)), GREEDY))) == 12


def test_one_stream_of_no_numbers_leaves_the_others(folder: Path) -> None:
    engine = load(folder)
    broken = [torch.full((3, 2, 2, 4, 16), float("nan"))] * 4
    bad, good = engine.start(story(0, 30), GREEDY, broken), engine.start(story(0, 33), GREEDY)
    assert run(engine, good) == oracle(folder, story(0, 33))
    assert (bad.finished or "").startswith("error: the model computed no numbers")
    assert run(engine, engine.start(story(1, 50), GREEDY)) == oracle(folder, story(1, 50)), "its blocks are used again"


def test_blocks_of_an_ended_stream_stay_until_others_need_the_room(folder: Path) -> None:
    engine = load(folder)
    engine._scheduler.pool.blocks = 12
    stream = engine.start(story(0, 12), GREEDY)
    run(engine, stream)
    block = engine.export_block(stream, 0)
    assert engine.counters.blocks_used == 0 and engine.counters.blocks_cached == 5
    run(engine, engine.start(story(1, 33), GREEDY))
    with pytest.raises(ModelError, match="memory was reused"):
        engine.export_block(stream, 4)
    assert torch.equal(block, next(iter(load(folder).prefill(story(0, 12))))[1])
    ended = engine.start([5], Sampling(max_tokens=1))
    run(engine, ended)
    engine.cancel(ended)
    with pytest.raises(ModelError, match="freed"):
        engine.export_block(ended, 0)


@pytest.mark.parametrize("right", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("params", [{}, {"temperature": 0.9, "seed": 4}])
def test_guesses_change_speed_only(folder: Path, right: float, params: dict[str, float]) -> None:
    """A drafter that knows the future, one that often does, one that never does: tokens and KV are the same."""
    chosen = Sampling(max_tokens=40, **params)  # type: ignore[arg-type]
    plain = load(folder, dtype="bf16")
    truth = plain.start(story(0, 21), chosen)
    run(plain, truth)
    dice = random.Random(1)

    class Drafter:
        def __init__(self, prompt: Sequence[int]) -> None:
            self._known = len(prompt)

        def extend(self, ids: Sequence[int]) -> None:
            self._known += len(ids)

        def propose(self, most: int, price: float) -> list[int]:
            coming = truth.tokens[self._known : self._known + most]
            return [token if dice.random() < right else (token + 1) % 151 for token in coming]

        def outcome(self, proposed: int, held: int) -> None:
            assert 0 <= held <= proposed and proposed > 0

    model = plain._model
    engine = Engine(model, EngineConfig(chunk_tokens=16, block_tokens=4, kv_memory_mib=1))
    engine._next.drafter = Drafter
    other, stream = engine.start([9, 8, 7], GREEDY), engine.start(story(0, 21), chosen)
    outputs = []
    while stream.finished is None:
        outputs += [output.token_id for output in engine.step() if output.stream is stream]
    assert outputs == stream.generated == truth.generated and stream.finished == truth.finished
    counters = engine.counters
    assert counters.tokens_guessed and (counters.tokens_accepted > 0) == (right > 0)
    if right == 1.0:
        assert counters.steps < 20
    for index in range(stream.length // 4):
        assert torch.equal(engine.export_block(stream, index), plain.export_block(truth, index))
    assert run(engine, other) == run(plain, plain.start([9, 8, 7], GREEDY)) and counters.blocks_used == 0


def test_guesses_from_the_text_itself(folder: Path) -> None:
    """Prompt lookup, with penalties that look at the text so far."""
    params = Sampling(max_tokens=60, repetition_penalty=1.05)
    plain, guessing = load(folder), load(folder, speculation="ngram")
    for ids in (story(0, 30), [5, 6, 7] * 12):
        for chosen in (params, Sampling(max_tokens=60)):
            assert run(guessing, guessing.start(ids, chosen)) == run(plain, plain.start(ids, chosen))
    assert 0 < guessing.counters.tokens_accepted <= guessing.counters.tokens_guessed
    assert guessing.counters.steps < plain.counters.steps


def test_memory_mapped_ahead_changes_nothing(folder: Path) -> None:
    """Whether blocks were never used, were mapped by an idle engine, or had another owner before."""
    prompt, expected = list(range(3, 80)), oracle(folder, range(3, 80))
    engine = load(folder, sharing="off", kv_memory_mib=1)
    for _ in range(8):
        while engine.prepare():
            pass
        assert run(engine, engine.start(prompt, Sampling(12))) == expected
