"""A thousand harmed blocks: none is placed, no load hangs. The connector's network side over the real forwarder core,
in virtual time; it needs no vLLM (test_share.py harms some tens below vLLM itself)."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ndn_infer.ndn.name import METADATA
from ndn_infer.security.domains import PUBLIC
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.vllm.finder import Found, PrefixFinder
from ndn_infer.vllm.jobs import LoadedBlock, LoadJob
from ndn_infer.vllm.running_load import RunningLoad
from tests.harness import NET
from tests.vllm_kit import RANK, SHAPE, Instance, content_of, instances

pytestmark = pytest.mark.timeout(600)

KINDS = ("tampered", "truncated", "swapped", "stale", "withheld")
ROUNDS, BLOCKS, HARMED = 40, 6, 5
"""Of each kind 200 blocks: 1,000 in all. Each round has blocks of its own, which no cache has."""


def harm(kind: str, holder: Instance, value: bytes, other: bytes, rng: random.Random) -> None:
    """One packet of a block becomes another one, or goes."""
    wires = holder.wires(value)
    name = rng.choice(list(wires))
    wire = wires[name]
    if kind == "tampered":
        at = rng.randrange(len(wire))
        wires[name] = wire[:at] + bytes([wire[at] ^ (1 << rng.randrange(8))]) + wire[at + 1 :]
    elif kind == "truncated":
        wires[name] = wire[: rng.randrange(1, len(wire))]
    elif kind == "swapped":
        wires[name] = rng.choice(list(holder.wires(other).values()))
    else:
        del wires[name]


async def make_stale(holder: Instance, value: bytes) -> None:
    """Of a block that was made anew, the manifest of before is all that is left."""
    old = dict(holder.wires(value))
    holder.server.store.remove(RANK.subject("public").name(NET, value))
    await holder.hold([value])
    wires = holder.wires(value)
    wires.clear()
    wires.update({name: wire for name, wire in old.items() if METADATA in name})


@pytest.mark.parametrize("kind", KINDS)
def test_harmed_blocks_are_reported_and_never_placed(kind: str) -> None:
    counted: Counter[str] = Counter()

    async def work() -> None:
        rng = random.Random(kind)
        async with instances(2) as (holder, reader):
            finder = PrefixFinder(reader.member, [RANK], [holder.member.signer.identity], 0.4)
            for _ in range(ROUNDS):
                values = [rng.randbytes(32) for _ in range(BLOCKS)]
                await holder.hold(values)
                found = await finder.find(PUBLIC, values)
                for place, value in enumerate(values[1:]):
                    if kind == "stale":
                        await make_stale(holder, value)
                    else:
                        harm(kind, holder, value, values[place], rng)
                assert len(found) == BLOCKS
                counted.update(await loaded(reader, values, found))

    run_virtual(work)
    assert counted["loads"] == ROUNDS and counted["wrong"] == 0
    assert counted["placed"] + counted["failed"] == ROUNDS * BLOCKS
    assert counted["failed"] > ROUNDS * HARMED // 2, "harm was done"


async def loaded(reader: Instance, values: list[bytes], found: Found) -> Counter[str]:
    """What became of one load: each block is placed with its right bytes, or reported."""
    pages: dict[int, bytes] = {}
    blocks = tuple(
        LoadedBlock(value, number, held) for number, (value, held) in enumerate(zip(values, found, strict=True))
    )
    running = RunningLoad(LoadJob("r", "public", blocks, False), 100.0, lambda at, payload: _place(pages, at, payload))
    await reader.loader.load(running, PUBLIC, 5.0)
    running.end()
    wrong = sum(page != bytes(SHAPE.payload(content_of(values[at]))) for at, page in pages.items())
    assert not running.failed & set(pages)
    return Counter(loads=1, placed=len(pages), failed=len(running.failed), wrong=wrong)


def _place(pages: dict[int, bytes], at: int, payload: memoryview) -> None:
    pages[at] = bytes(payload)
