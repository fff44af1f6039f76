"""How the source may grow: what tests/house.py counts, with the bounds that hold."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.house import MANY_PARAMETERS, house

PARTS = ("ndn_infer", "apps", "testbed")
AT_MOST_PERCENT = 1.0
LINES = 450


@cache
def figures() -> dict[str, dict[str, Any]]:
    return house()


@pytest.mark.parametrize("part", PARTS)
def test_few_functions_take_many_parameters(part: str) -> None:
    """What belongs together is one value (a frozen dataclass)."""
    assert figures()[part][f"functions with more than {MANY_PARAMETERS} parameters, %"] < AT_MOST_PERCENT


@pytest.mark.parametrize("part", PARTS)
def test_modules_stay_readable(part: str) -> None:
    """One concept a file."""
    assert figures()[part]["lines a file, median / max"][1] <= LINES
