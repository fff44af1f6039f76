"""Asking again whoever was lost: how long a call waits for it, and what is left behind. In virtual time."""

from __future__ import annotations

import asyncio

import pytest

from ndn_infer import clock
from ndn_infer.ndn.name import Name
from ndn_infer.offers.live.seeking import AGAIN_S, WAIT_S, Seeking
from ndn_infer.testbed.virtual.loop import run_virtual

SLOW_S = 60.0


class Asked:
    """Whom a Seeking asks. Each answers after its seconds."""

    def __init__(self, **after_s: float) -> None:
        self.after_s = {name.encode(): seconds for name, seconds in after_s.items()}
        self.names: list[Name] = []
        self.ended = 0
        self.seeking = Seeking(self.pull)

    async def pull(self, name: Name) -> None:
        self.names.append(name)
        try:
            await asyncio.sleep(self.after_s[name])
        finally:
            self.ended += 1

    async def seek(self, enough: int = 1 << 20) -> float:
        """Ask all of them; how long it was waited until `enough` had answered."""
        began = clock.monotonic()
        await self.seeking.seek(tuple(self.after_s), lambda: self.ended >= enough)
        return clock.monotonic() - began


def test_a_call_waits_no_longer_when_all_have_answered() -> None:
    async def work() -> None:
        asked = Asked(near=0.02, far=0.1)
        assert await asked.seek() == pytest.approx(0.1)
        assert await asked.seek() == 0.0, "a moment ago"
        await asyncio.sleep(AGAIN_S)
        assert await asked.seek() == pytest.approx(0.1) and len(asked.names) == 4
        await asked.seeking.close()

    run_virtual(work)


def test_and_half_a_second_at_most() -> None:
    async def work() -> None:
        asked = Asked(near=0.02, dead=SLOW_S)
        assert await asked.seek(enough=1) == pytest.approx(0.02)
        assert await asked.seek() == pytest.approx(WAIT_S)
        await asked.seeking.close()
        assert asked.ended == 2
        assert await Asked().seek() == 0.0, "nobody is to be asked"

    run_virtual(work)


def test_of_calls_at_the_same_time_one_asks_and_nothing_is_left() -> None:
    async def work() -> None:
        asked, before = Asked(dead=AGAIN_S), asyncio.all_tasks()
        for count in (1, 2):
            assert await asyncio.gather(*(asked.seek() for _ in range(3))) == pytest.approx([WAIT_S] * 3)
            assert len(asked.names) == count
            await asyncio.sleep(AGAIN_S)
        asking = asyncio.ensure_future(asked.seek())
        await asyncio.sleep(0.1)
        await asyncio.gather(asked.seeking.close(), asking)
        assert asked.ended == 3 and asyncio.all_tasks() == before

    run_virtual(work)


def test_calls_that_others_can_answer_do_not_wait_for_each_other() -> None:
    async def work() -> None:
        asked = Asked(dead=SLOW_S, near=0.02)
        asking = asyncio.ensure_future(asked.seeking.seek((b"dead",), lambda: False))
        await asyncio.sleep(0.1)
        began = clock.monotonic()
        await asked.seeking.seek((b"near",), lambda: False)
        assert clock.monotonic() - began == pytest.approx(0.02) and asked.names == [b"dead", b"near"]
        await asyncio.gather(asked.seeking.close(), asking)

    run_virtual(work)


def test_a_call_that_waits_ends_when_it_is_closed() -> None:
    async def work() -> None:
        asked = Asked(dead=SLOW_S)
        waiting = asyncio.ensure_future(asked.seek())
        await asyncio.sleep(0.1)
        await asked.seeking.close()
        assert await waiting == pytest.approx(0.1)

    run_virtual(work)
