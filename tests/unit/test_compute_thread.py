"""A thread that computes one thing after another for an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ndn_infer.functions.compute_thread import ComputeThread


async def test_work_is_done_in_order_in_one_thread_and_its_errors_come_back() -> None:
    thread, done = ComputeThread("computes"), []

    def work(number: int) -> str:
        done.append(number)
        if number == 2:
            raise ValueError("two")
        return threading.current_thread().name

    found = await asyncio.gather(*(thread.run(lambda n=n: work(n)) for n in range(4)), return_exceptions=True)
    assert done == [0, 1, 2, 3] and [found[0], found[1], found[3]] == ["computes"] * 3
    assert isinstance(found[2], ValueError)
    await thread.close()
    with pytest.raises(RuntimeError, match="closed"):
        await thread.run(lambda: None)


async def test_what_nobody_waits_for_is_not_begun_and_close_waits_for_what_is() -> None:
    thread, go, begun, done = ComputeThread("computes"), threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        go.wait(30.0)
        done.append("first")

    tasks = [asyncio.ensure_future(thread.run(first))]
    tasks += [asyncio.ensure_future(thread.run(lambda n=n: done.append(n))) for n in ("left", "late")]
    await asyncio.to_thread(begun.wait, 30.0)
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    closing = asyncio.ensure_future(thread.close())
    await asyncio.sleep(0)
    go.set()
    await closing
    await asyncio.gather(*tasks, return_exceptions=True)
    assert done == ["first"] and not tasks[0].cancelled() and tasks[2].cancelled(), "what waits is left at the end"


async def test_a_thread_without_work_is_none() -> None:
    before = threading.active_count()
    thread = ComputeThread("computes")
    await thread.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [StopIteration("one"), SystemExit(3), KeyboardInterrupt()])
async def test_what_no_future_carries_comes_as_an_error_and_the_thread_goes_on(error: BaseException) -> None:
    thread = ComputeThread("computes")

    def work() -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__) as caught:
        await asyncio.wait_for(thread.run(work), 30.0)
    assert caught.value.__cause__ is error
    assert await asyncio.wait_for(thread.run(lambda: 1), 30.0) == 1
    await thread.close()
