"""Scheduler and block pool without a model: rules that hold for every arrival, length, cancellation, lack of room."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.config import EngineConfig
from ndn_infer.engine.kv_pool import BlockPool
from ndn_infer.engine.scheduler import ScheduledSequence, Scheduler
from ndn_infer.errors import Busy

BLOCK = 4


@dataclass(eq=False, slots=True, kw_only=True)
class Job(ScheduledSequence):
    """`answer` tokens after the prompt; 0: only the prompt is wanted. Equal `story`, equal tokens."""

    answer: int
    story: int = 0
    arrival: int = 0
    cancel_at: int = 10**9
    steps: list[int] = field(default_factory=list)

    def sharable(self) -> list[tuple[int, int]]:
        wanted = self.known - 1 if self.answer else self.known
        return [(self.story, index) for index in range(wanted // BLOCK)]

    def shelve(self) -> list[tuple[int, int]]:
        return [(self.story, index) for index in range(self.length // BLOCK)]


def scheduler(blocks: int = 16, least_rows: int = 1, **options: int) -> Scheduler[Job]:
    chosen = {"block_tokens": BLOCK, "chunk_tokens": 8, "max_streams": 3, "queue_limit": 100, **options}
    return Scheduler(BlockPool(blocks), EngineConfig(**chosen), least_rows=least_rows)


def job(number: int, prompt: int, answer: int, **options: int) -> Job:
    return Job(number=number, prompt_tokens=prompt, known=prompt, answer=answer, **options)


def compute(core: Scheduler[Job], now: int) -> list[Job]:
    """One step, as the engine does it; those who ended."""
    plan = core.plan()
    ended = []
    for seat, count in [*plan.rows, *plan.chunks]:
        assert count > 0 and len(seat.table) * BLOCK >= seat.length + count, "blocks are there before they are written"
        seat.steps.append(now)
        seat.length += count
        for block, key in zip(seat.table, seat.shelve(), strict=False):
            core.pool.register(block, key)
        if seat.length >= seat.known and seat.answer:
            seat.known += 1
        if seat.known - seat.prompt_tokens == seat.answer and seat.length >= seat.prompt_tokens:
            seat.finished = "length"
            ended.append(seat)
    for seat in plan.settled:
        if seat.finished is None and not seat.answer and seat.length == seat.prompt_tokens:
            seat.finished = "length"
            ended.append(seat)
    for seat in ended:
        core.end(seat)
    return ended


def check(core: Scheduler[Job]) -> None:
    """The books agree with the tables, and nobody is passed by."""
    held = [block for seat in [*core.running, *core.waiting] for block in seat.table]
    assert core.pool.used == len(set(held)) and core.pool.used + core.pool.free == core.pool.blocks
    assert core.pool.cached <= core.pool.free
    assert not any(seat.table for seat in core.waiting)
    order = [seat.number for seat in [*core.running, *core.waiting]]
    assert order == sorted(order), "first come, first served"


jobs = st.lists(
    st.builds(
        dict, prompt=st.integers(1, 40), answer=st.integers(0, 20), story=st.integers(0, 2),
        arrival=st.integers(0, 30), cancel_at=st.one_of(st.just(10**9), st.integers(0, 40)),
    ),
    max_size=14,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(jobs, st.integers(15, 40), st.integers(1, 4), st.integers(1, 8), st.integers(1, 24))
def test_everybody_ends_nothing_leaks_the_budget_holds(
    wanted: list[dict[str, int]], blocks: int, seats: int, least: int, chunk: int
) -> None:
    core = scheduler(blocks, max_streams=seats, least_rows=least, chunk_tokens=chunk)
    crowd = [job(number, **one) for number, one in enumerate(sorted(wanted, key=lambda one: one["arrival"]))]
    now = 0
    while any(one.finished is None for one in crowd):
        for one in crowd:
            if one.arrival == now:
                core.add(one)
            if one.cancel_at <= now and one.arrival <= now and one.finished is None:
                one.finished = "cancelled"
                core.end(one, keep=False)
                assert not one.table, "cancelling frees at once"
        ready = [one.number for one in core.running if one.length >= one.prompt_tokens and one.known - one.length == 1]
        preempted = core.preemptions
        compute(core, now)
        check(core)
        if core.preemptions == preempted:
            assert all(now in crowd[number].steps for number in ready), "a prompt stops nobody"
        now += 1
        assert now < 30 + sum(2 * (one.prompt_tokens + one.answer + 2) for one in crowd) * 4, "somebody starves"
    assert core.pool.used == 0 and core.idle
    assert core.pool.free == core.pool.blocks


@settings(max_examples=200, deadline=None)
@given(jobs, st.integers(15, 40), st.integers(1, 4), st.lists(st.tuples(st.integers(0, 13), st.integers(0, 60))))
def test_who_is_paused_holds_nothing_and_gets_everything_after_its_return(
    wanted: list[dict[str, int]], blocks: int, seats: int, switches: list[tuple[int, int]]
) -> None:
    core = scheduler(blocks, max_streams=seats)
    crowd = [job(number, **one) for number, one in enumerate(wanted)]
    for one in crowd:
        core.add(one)
    paused: set[int] = set()
    for now in range(2000):
        for number, at in switches:
            if at == now and number < len(crowd):
                one = crowd[number]
                (core.resume if number in paused else core.pause)(one)
                paused ^= {number}
                assert number not in paused or not one.table
        compute(core, now)
        held = [block for seat in core.running for block in seat.table]
        assert core.pool.used == len(set(held)) and core.pool.used + core.pool.free == core.pool.blocks
        if all(one.finished is not None for one in crowd if one.number not in paused) and now > 60:
            break
    assert all(one.finished == "length" for one in crowd if one.number not in paused)
    for one in crowd:
        core.resume(one)
    while not core.idle:
        compute(core, 0)
    assert all(one.finished == "length" for one in crowd) and core.pool.used == 0


@settings(max_examples=200, deadline=None)
@given(jobs, st.integers(1, 8), st.integers(1, 24))
def test_budget(wanted: list[dict[str, int]], least: int, chunk: int) -> None:
    core = scheduler(30, max_streams=4, least_rows=least, chunk_tokens=chunk)
    for number, one in enumerate(wanted):
        core.add(job(number, **one))
    for now in range(60):
        real = core.plan

        def planned(real=real):  # type: ignore[no-untyped-def]
            plan = real()
            most = max(chunk, least) + least - 1
            assert plan.tokens - len(plan.rows) <= most, "one token of each running stream, and a bounded rest"
            assert all(
                count >= min(least, seat.prompt_tokens - seat.length, seat.prompt_tokens) for seat, count in plan.chunks
            )
            return plan

        core.plan = planned  # type: ignore[method-assign]
        compute(core, now)
        core.plan = real  # type: ignore[method-assign]


def test_the_cut_of_a_prompt_follows_the_stream_alone() -> None:
    def cuts(others: int) -> list[int]:
        core = scheduler(200, max_streams=9, chunk_tokens=10, least_rows=3)
        for number in range(others):
            core.add(job(number, 7 + number, 30, story=number))
        watched = job(99, 47, 1, story=99)
        core.add(watched)
        seen = []
        while watched.finished is None:
            before = watched.length
            compute(core, 0)
            seen += [watched.length - before] if watched.length > before else []
        return seen

    assert cuts(0) == cuts(3) == cuts(8) == [10, 10, 10, 10, 7]


def test_the_latest_gives_way_and_comes_back_first() -> None:
    core = scheduler(6, max_streams=3)
    crowd = [job(number, 8, 12, story=number) for number in range(3)]
    for one in crowd:
        core.add(one)
    ended: list[int] = []
    for now in range(60):
        ended += [one.number for one in compute(core, now)]
        check(core)
    assert ended == [0, 1, 2] and core.preemptions >= 2
    assert crowd[0].steps == list(range(crowd[0].steps[0], crowd[0].steps[0] + len(crowd[0].steps))), (
        "the oldest goes on"
    )


def test_equal_beginnings_share_blocks() -> None:
    core = scheduler(32, max_streams=4, chunk_tokens=16)
    crowd = [job(number, 14, 6) for number in range(4)]
    for one in crowd:
        core.add(one)
    compute(core, 0)
    compute(core, 1)
    assert [one.table[:3] for one in crowd] == [crowd[0].table[:3]] * 4, "three full blocks, once"
    assert len({block for one in crowd for block in one.table[3:]}) == sum(len(one.table[3:]) for one in crowd)
    core.end(crowd[0])
    assert core.pool.used == len({block for one in crowd[1:] for block in one.table})


def test_a_full_queue_says_so() -> None:
    core = scheduler(max_streams=1, queue_limit=2)
    for number in range(3):
        core.add(job(number, 4, 4))
    with pytest.raises(Busy, match="try again") as caught:
        core.add(job(3, 4, 4))
    assert caught.value.code == "busy" and caught.value.hint
    compute(core, 0)
    with pytest.raises(Busy):
        core.add(job(3, 4, 4))
    core.end(core.waiting[0], keep=False)
    core.add(job(3, 4, 4))


# ------------------------------------------------------------ the pool alone


def test_recently_used_content_stays_longest_and_tails_go_first() -> None:
    pool = BlockPool(4)
    first, second = pool.allocate(2), pool.allocate(2)
    for block, key in zip(first + second, "abcd", strict=True):
        pool.register(block, key)
    pool.release(second)
    pool.release(first)
    assert (pool.used, pool.free, pool.cached) == (0, 4, 4)
    pool.allocate(1)
    assert pool.find("d") is None and pool.match("ab") == first and pool.match("cd") == second[:1]
    pool.share(pool.match("ab"))
    pool.allocate(1)
    assert pool.find("c") is None and pool.free == 0
    with pytest.raises(ValueError, match="0 free"):
        pool.allocate(1)


def test_equal_content_is_known_once() -> None:
    pool = BlockPool(4)
    one, other = pool.allocate(1), pool.allocate(1)
    pool.register(one[0], "a")
    pool.register(other[0], "a")
    pool.release(other)
    assert pool.cached == 0 and pool.find("a") == one[0]
    pool.share(one)
    pool.release(one)
    assert pool.used == 1
    pool.release(one)
    assert (pool.used, pool.cached, pool.idle(one)) == (0, 1, 1)


@given(
    blocks=st.integers(1, 40), ahead=st.integers(0, 50), at_once=st.integers(1, 8),
    taken=st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=12),
)  # fmt: skip
def test_mapping_ahead_has_an_end_in_every_state_of_the_pool(
    blocks: int, ahead: int, at_once: int, taken: list[tuple[int, bool]]
) -> None:
    """Also when every block was used once: then nothing is left to be mapped."""
    pool, mapped = BlockPool(blocks), []
    for count, released in [*taken, (0, True)]:
        held = pool.allocate(min(count, pool.free))
        if released:
            pool.release(held)
        before, steps = pool.fresh, 0
        while fresh := pool.map_ahead(ahead, at_once):
            assert before <= fresh.start and fresh.stop <= min(before + ahead, blocks) and len(fresh) <= at_once
            mapped += fresh
            steps += 1
            assert steps <= blocks, "there is always more to do"
    assert len(set(mapped)) == len(mapped), "nothing is mapped twice"
