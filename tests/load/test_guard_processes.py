"""Guards of processes that are killed, stopped and lie: the short form of 'tests.load.guard --processes'."""

from __future__ import annotations

import pytest

from tests.load import guard_processes

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")
pytest.importorskip("detect_secrets")


async def test_nothing_is_shown_that_no_verdict_covers_whatever_befalls_the_guards() -> None:
    outcome = await guard_processes.run(8, 1)
    assert (outcome.uncovered, outcome.leaked) == (0, 0)
    assert outcome.answers == 8 and outcome.shown > 0 and sum(outcome.ends.values()) == 8
