"""Signals of a command: the clean end that SIGINT, SIGTERM and SIGHUP ask for.

Owns: handlers, and the race of work against a signal. Must not know: what is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """For a program that waits for no event: within this block SIGTERM and SIGHUP unwind it as Ctrl-C does, so that
    every block inside ends what it began. More of them do not disturb that."""
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if not _ignored(number)]

    def ended(number: int, _: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, ended) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignored(number: signal.Signals) -> bool:
    """Whether whoever started this process wants it so: nohup, and SIGHUP."""
    return number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


def stop_on_signals(stop: asyncio.Event, *, with_parent: bool = False) -> None:
    """Set `stop` on SIGINT, SIGTERM, SIGHUP (if nohup does not ignore it) and, with `with_parent`, when standard input
    closes."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if not _ignored(number):
            loop.add_signal_handler(number, stop.set)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), _on_stdin, loop, stop)


def _on_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()
