"""Virtual time: nothing takes any but waiting, and a process that was killed does nothing more."""

from __future__ import annotations

import asyncio
import time

import pytest

from ndn_infer import clock
from ndn_infer.testbed.virtual.loop import START_S, Process, run_virtual


def test_a_day_is_over_at_once_for_every_clock() -> None:
    async def day() -> tuple[float, float, float]:
        loop, wall = asyncio.get_running_loop(), clock.wall_s()
        await asyncio.sleep(86_400)
        return loop.time() - START_S, clock.monotonic() - START_S, clock.wall_s() - wall

    began = time.monotonic()
    loop_s, monotonic_s, wall_s = run_virtual(day)
    assert time.monotonic() - began < 10
    assert loop_s == monotonic_s == 86_400 and wall_s == pytest.approx(86_400, abs=0.001)
    assert abs(clock.monotonic() - time.monotonic()) < 1, "outside the machine's clock is read again"


def test_two_versions_of_one_moment_differ() -> None:
    async def versions() -> list[int]:
        return [clock.wall_us() for _ in range(3)]

    found = run_virtual(versions)
    assert found == [found[0], found[0] + 1, found[0] + 2]


def test_a_thread_takes_no_time_and_tells_what_went_wrong() -> None:
    async def work() -> float:
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return clock.monotonic()

    assert run_virtual(work) == START_S


def test_waiting_for_nothing_is_an_error_not_a_hang() -> None:
    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        run_virtual(lambda: asyncio.get_running_loop().create_future())


def test_what_a_callback_raises_comes_out() -> None:
    async def work() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="callbacks failed") as raised:
        run_virtual(work)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_killed_process_does_nothing_more() -> None:
    """No step, no timer, no `finally`; what it started belongs to it too; others go on."""
    told: list[str] = []

    async def ticks(name: str) -> None:
        try:
            while True:
                told.append(f"{name} {clock.monotonic() - START_S:g}")
                await asyncio.sleep(1)
        finally:
            told.append(f"{name} ends")

    async def parent() -> None:
        asyncio.get_running_loop().call_later(2.5, told.append, "timer")
        await asyncio.gather(ticks("child"), ticks("twin"))

    async def work() -> None:
        doomed, other = Process("doomed"), Process("other")
        doomed.spawn(parent())
        task = other.spawn(ticks("other"))
        await asyncio.sleep(1.5)
        doomed.kill()
        await asyncio.sleep(2)
        before = list(told)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert sorted(before) == [
            "child 0", "child 1", "other 0", "other 1", "other 2", "other 3", "twin 0", "twin 1",
        ]  # fmt: skip

    run_virtual(work)
    assert told[8] == "other ends"


def test_a_process_that_is_called_runs_as_itself() -> None:
    async def work() -> list[int]:
        process, found = Process("p"), list[int]()
        process.run(lambda: asyncio.get_running_loop().call_later(1, found.append, 1))
        process.run(lambda: asyncio.get_running_loop().call_later(3, found.append, 3))
        await asyncio.sleep(2)
        process.kill()
        await asyncio.sleep(2)
        return found

    assert run_virtual(work) == [1]
