"""Every kind of the day's mixed use once, with `-m slow` for three minutes; and what a report finds wrong."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ndn_infer.models.store import ModelFolder
from tests.daemons import processes_of
from tests.load.callers import DECK, KINDS, Tally
from tests.load.day import Report, day, small_network
from tests.load.watch import Look, Sizes

ONCE = dict.fromkeys(KINDS, 1)
SILENCE_S = 6.0


@pytest.mark.model
@pytest.mark.parametrize(
    ("seconds", "deck"), [(0, ONCE), pytest.param(90, DECK, marks=pytest.mark.slow)], ids=["once", "rounds"]
)
def test_after_a_day_of_mixed_use_the_network_is_as_quiet_as_before(
    seconds: int, deck: dict[str, int], smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path: Path
) -> None:
    with small_network(tmp_path, model_cache) as network:
        report = asyncio.run(day(network, seconds, silence_s=SILENCE_S, deck=deck))
    assert not report.failures(), f"{report.failures()}\n{report.table()}"
    assert processes_of(network.environment) == []


def test_what_is_wrong_is_told() -> None:
    def seen(**more: int | float) -> Look:
        return Look(
            time.monotonic(),
            {"decode": Sizes(**{"pid": 7, "pss_kib": 800_000, "descriptors": 7, "cpu_s": 1.0, **more})},
        )

    tally = Tally(Counter(dict.fromkeys(KINDS, 1)), dict.fromkeys(KINDS, [1.0]))
    good = Report(60.0, tally, seen(), seen(), seen(), seen(), {"decode": 0.002}, {"running": 0.0}, "It is Paris.")
    assert not good.failures() and good.document()["failures"] == [] and "decode" in good.table()
    for bad, words in (
        (replace(good, idle={"decode": 1.0}), "decode uses 100.0% of a core"),
        (replace(good, left={"streams_open": 1.0}), "still in work in silence: streams_open 1"),
        (replace(good, last_answer="Rome"), "the last answer is 'Rome'"),
        (replace(good, after=seen(pss_kib=900_000)), "grew by 97.7 MiB in the second half"),
        (replace(good, minutes=3.0, after=seen(pss_kib=1_900_000)), "grew by 1074.3 MiB, its pools hold"),
        (replace(good, after=seen(descriptors=8)), "decode has 8 descriptors open, 7 before"),
        (replace(good, after=Look(0.0, {})), "decode is gone"),
        (replace(good, tally=replace(tally, wrong=[("burst", "status 3")])), "burst: status 3"),
        (replace(good, tally=replace(tally, done=Counter())), "never done: burst, deaf"),
        (replace(good, complaints=["Traceback"]), "told on standard error: Traceback"),
    ):
        assert [text[: len(words)] for text in bad.failures()] == [words]
