"""When an offer is published again: for what others would choose by, and before it ends."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ndn_infer.functions.offering import freshness_ms
from ndn_infer.offers.changes import LEAST_GAP_S, REFRESH_S, due, material
from ndn_infer.offers.prefixes import hint_of
from tests.offer_kit import WALL_US, offer

DRAW = random.Random(3)
VALUES = [DRAW.randbytes(32) for _ in range(200)]
OLD = offer(held=hint_of(VALUES, 16), queue=0, free=4)


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({"made_us": WALL_US + 10**6, "until_us": WALL_US + 10**8, "load": 0.9}, False),
        ({"free": 3}, False), ({"free": 0}, True), ({"queue": 2}, False), ({"queue": 3}, True),
        ({"prefill_tps": 600.0}, False), ({"prefill_tps": 800.0}, True), ({"prefill_tps": 0.0}, True),
        ({"functions": ()}, True), ({"engine": "other"}, True), ({"adapters": ("style",)}, True),
        ({"held": hint_of(VALUES[:198], 16)}, False), ({"held": hint_of(VALUES[:150], 16)}, True),
        ({"held": None}, True),
    ],
    ids=str,
)  # fmt: skip
def test_what_counts(fields: dict[str, object], changed: bool) -> None:
    new = replace(OLD, **fields)  # type: ignore[arg-type]
    assert material(OLD, new) == material(new, OLD) == changed
    assert due(OLD, new, LEAST_GAP_S) == changed and not due(OLD, new, LEAST_GAP_S / 2) and due(OLD, new, REFRESH_S)


def test_the_first_is_due() -> None:
    assert due(None, OLD, 0.0)


@pytest.mark.parametrize(("free", "fresh_ms"), [(0, 200), (1, 200), (4, 200), (8, 400), (16, 800), (64, 2000)])
def test_caches_keep_it_for_as_long_as_a_crowd_takes_to_fill_what_is_free(free: int, fresh_ms: int) -> None:
    assert freshness_ms(offer(free=free)) == fresh_ms
