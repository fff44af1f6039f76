"""Twelve seconds of the mixed load with sixteen clients; `python -m tests.load.soak 600 16` goes on for longer."""

from __future__ import annotations

from dataclasses import replace

from tests.load.process import Sizes
from tests.load.soak import CS_PACKETS, KINDS, Report, soak


async def test_mixed_load(record_property) -> None:  # type: ignore[no-untyped-def]
    report = await soak(12, 16)
    record_property("soak", str(report))
    assert not report.failures(), (report.failures(), report)
    assert report.end.cs > CS_PACKETS / 4, "the Content Store was to be filled"


def test_what_is_wrong_is_told() -> None:
    sizes = Sizes(50_000, 10, 3, 2, 1, 100)
    done = dict.fromkeys(KINDS, 10)
    good = Report(1.0, 16, 70, 70.0, 1.0, 1.0, done, {}, 0, 0.5, 0.1, sizes, sizes, sizes, sizes, [])
    assert not good.failures()
    for bad in (
        replace(good, end=replace(sizes, rss_kib=50_000 + 20 * 1024)), replace(good, unanswered={"hits": 1}),
        replace(good, wrong=1), replace(good, end=replace(sizes, cs=CS_PACKETS + 1)),
        replace(good, after=replace(sizes, faces=4)), replace(good, done={"hits": 10}),
        replace(good, complaints=["1 x Traceback"]),
    ):  # fmt: skip
        assert len(bad.failures()) == 1
