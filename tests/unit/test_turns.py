"""What a turn of the event loop produced leaves at its end, whichever loop it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from ndn_infer.forwarder.shell import turns
from ndn_infer.forwarder.shell.turns import Output, TurnLoop


class Writer:
    def __init__(self, log: list[str], name: str) -> None:
        self._log, self._name = log, name

    def flush(self) -> None:
        self._log.append(f"flush {self._name}")


async def two_sockets(output: Output, log: list[str]) -> None:
    """Both become readable in one turn; each has something for both writers; then one alone."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    pairs = [socket.socketpair() for _ in "ab"]
    writers = [Writer(log, name) for name in "ab"]

    def reader(at: int) -> Callable[[], None]:
        def readable() -> None:
            mine = pairs[at][0]
            output.hold()
            log.append(f"read {'ab'[at]} {mine.recv(9).decode()}")
            output.add(writers[1 - at])
            loop.call_soon(log.append, "next turn")
            loop.call_soon(done.set)
            output.release(mine)

        return readable

    for at, (mine, _) in enumerate(pairs):
        mine.setblocking(False)
        loop.add_reader(mine, reader(at))
    for _, theirs in pairs:
        theirs.send(b"1")
    await done.wait()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    log.append("-")
    done.clear()
    pairs[0][1].send(b"2")
    await done.wait()
    await asyncio.sleep(0)
    for pair in pairs:
        loop.remove_reader(pair[0])
        for sock in pair:
            sock.close()


def test_after_the_last_socket_of_a_turn_nothing_waits() -> None:
    log: list[str] = []
    turns.run(two_sockets(Output(), log))
    first, second = log[: log.index("-")], log[log.index("-") + 1 :]
    assert {"read a 1", "read b 1", "flush a", "flush b"} <= set(first) and first.count("flush a") == 1
    assert second == ["read a 2", "flush b", "next turn"]


def test_on_another_loop_it_leaves_in_the_next_turn() -> None:
    log: list[str] = []
    asyncio.run(two_sockets(Output(), log))
    second = log[log.index("-") + 1 :]
    assert second == ["read a 2", "next turn", "flush b"]


def test_what_is_produced_outside_a_turn_leaves_soon() -> None:
    async def alone() -> list[str]:
        log: list[str] = []
        output = Output()
        output.add(Writer(log, "a"))
        output.add(Writer(log, "b"))
        assert log == []
        await asyncio.sleep(0)
        return log

    assert turns.run(alone()) == ["flush a", "flush b"]


def test_no_socket_is_the_last_of_a_turn_that_found_none() -> None:
    async def check() -> bool:
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, TurnLoop)
        return loop.is_last(None) or loop.is_last(object())

    assert not turns.run(check())


@pytest.mark.parametrize("failing", [ValueError, KeyboardInterrupt])
def test_the_loop_ends_with_its_work(failing: type[BaseException]) -> None:
    async def fail() -> None:
        raise failing

    with pytest.raises(failing):
        turns.run(fail())


def test_one_that_cannot_write_keeps_no_other_from_it() -> None:
    class Broken:
        def flush(self) -> None:
            raise ValueError("a defect")

    async def both() -> list[str]:
        log: list[str] = []
        output = Output()
        output.add(Broken())
        output.add(Writer(log, "b"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return log

    assert asyncio.run(both()) == ["flush b"]
