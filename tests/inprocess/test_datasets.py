"""Datasets of several segments, as NFD and others cut them: transport/objects/datasets.py."""

from __future__ import annotations

import pytest

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, NdnInferError
from ndn_infer.ndn.packet import encode_data
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.transport.link.endpoint import ReceivedInterest
from ndn_infer.transport.objects import datasets
from tests.kv_kit import stations

PREFIX = ndn.from_uri("/localhost/nfd/elsewhere")
PIECES = [b"one ", b"two ", b"three"]


@pytest.mark.parametrize("final_everywhere", [True, False])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("first", [0, -1])
def test_all_segments_are_read_wherever_the_last_one_is_named(final_everywhere: bool, count: int, first: int) -> None:
    """`first`: which segment answers the question for the newest version; a cache may have any."""
    base, pieces = PREFIX + ndn.generic("list") + ndn.version(7), PIECES[:count]

    def answer(request: ReceivedInterest, nonce: bytes = b"") -> None:
        numbers = {base + ndn.segment(number): number for number in range(count)}
        number = numbers.get(request.interest.name, range(count)[first])
        name, last = base + ndn.segment(number), ndn.segment(count - 1)
        final = last if final_everywhere or number == count - 1 else None
        request.reply(encode_data(name, pieces[number], freshness_ms=1000, final_block=final))

    async def work() -> None:
        async with stations() as (asker, p, *_):
            p.server.answer(PREFIX, answer)
            await p.registrar.register(PREFIX)
            assert await datasets.Datasets(asker.endpoint).fetch("elsewhere", "list") == b"".join(pieces)

    run_virtual(work)


def test_a_dataset_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MAX_SEGMENTS", 5)
    asked: list[bytes] = []

    def answer(request: ReceivedInterest) -> None:
        name = request.interest.name
        asked.append(name)
        wanted = name if len(asked) > 1 else PREFIX + ndn.generic("list") + ndn.version(7) + ndn.segment(0)
        request.reply(encode_data(wanted, b"more", freshness_ms=1000))

    async def work() -> None:
        async with stations() as (asker, p, *_):
            p.server.answer(PREFIX, answer)
            await p.registrar.register(PREFIX)
            with pytest.raises(BadPacket, match="more than 5 segments"):
                await datasets.Datasets(asker.endpoint).fetch("elsewhere", "list")
            assert len(asked) == 5
            with pytest.raises(NdnInferError):
                await datasets.Datasets(asker.endpoint).fetch("nowhere", "list")

    run_virtual(work)
