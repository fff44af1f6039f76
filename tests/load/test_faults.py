"""Every fault of faults.py, short: honest clients are served all the while, bounds hold, nothing is left of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ndn_infer import ndn
from tests.load.attacks import flood_of
from tests.load.faults import FAULTS, Delays, HonestPair, Outcome, run_fault
from tests.load.process import Sizes, running_forwarder

SECONDS = 0.6
BEFORE_S = 0.2


@pytest.mark.parametrize("name", FAULTS)
async def test_fault(name: str, record_property) -> None:  # type: ignore[no-untyped-def]
    outcome = await run_fault(name, SECONDS, before_s=BEFORE_S)
    record_property("before", str(outcome.before))
    record_property("during", str(outcome.during))
    assert not outcome.failures(), (outcome.failures(), outcome)


async def test_endless_packet() -> None:
    """A packet that never ends holds one buffer and disturbs nobody; one too long is refused at its header."""
    async with running_forwarder() as forwarder:
        path = forwarder.uris["unix"].removeprefix("unix://")
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"\x06\xfd\x20\x00" + bytes(8000))
        long_reader, long_writer = await asyncio.open_unix_connection(path)
        long_writer.write(b"\x06\xfe\x7f\xff\xff\xff")
        assert await asyncio.wait_for(long_reader.read(), 10) == b""  # hung up on
        pair = await HonestPair.join(forwarder)
        assert (await pair.measure(0.1)).answered
        assert not reader.at_eof()
        pair.leave()
        writer.close()
        long_writer.close()
        assert not forwarder.complaints()


def test_what_a_fault_leaves_behind_is_told() -> None:
    sizes, delays = Sizes(1000, 10, 2, 1, 1, 0), Delays(10, 10, 10, 1.0, 1.0, 1.0)
    good = Outcome("x", delays, delays, sizes, sizes, sizes, {}, bounds={"MiB more": (1, 2)})
    assert not good.failures()
    assert replace(good, at_last=replace(sizes, faces=3)).failures() == ["3 faces left of it, 2 before"]
    assert replace(good, during=replace(delays, answered=9)).failures()
    assert replace(good, complaints=["1 x Traceback"]).failures()
    assert replace(good, bounds={"MiB more": (3, 2)}).failures() == ["MiB more: 3 > 2"]


def test_a_flood_is_made_of_different_interests() -> None:
    wire = flood_of("/x", 100)
    size = len(wire) // 100
    assert len({wire[at : at + size] for at in range(0, len(wire), size)}) == 100
    assert wire[:2] == bytes((5, size - 2)) and ndn.from_uri("/x") in wire
