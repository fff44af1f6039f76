"""When KV blocks by name pay: the link speed above which fetching a prompt's blocks is sooner than computing them.

Owns: this rule, the engines that are computed and not measured, the plot. Pure. Must not know: how anything is measured
(vllm_kv.py, vllm_prefill.py; kv_long.py, kv_models.py).

A prompt of n tokens has n // block whole blocks; its tail is computed either way. By name it takes one search, one
round trip for the first segments, and the blocks' bytes at the speed of the link, or at that at which they are verified
and placed, whichever is less. What a link must carry is therefore bytes / (seconds to compute - search - round trip);
where that is more than is verified, no link is enough for one process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ndn_infer.testbed.svg import (
    BLUE,
    DARK,
    END,
    GREEN,
    GREY,
    GRID,
    MIDDLE,
    ORANGE,
    PINK,
    Point,
    line,
    page,
    polyline,
    text,
)

BLOCK: Final = 128
ROUND_TRIP_S: Final = 0.02
UTILISED: Final = 0.4
"""Of a GPU's peak in prompts, as far as nobody measured it."""


@dataclass(frozen=True, slots=True)
class PromptEngine:
    """`seconds(n)`: to compute n tokens of a prompt. `kv_bytes`: of one token. `longest`: prompt that is looked at.
    `block`: tokens of a block."""

    title: str
    kv_bytes: int
    seconds: Callable[[float], float]
    longest: int
    measured: bool
    block: int = BLOCK


def computed_engine(title: str, parameters: float, kv_bytes: int, flops: float) -> PromptEngine:
    """Two operations a parameter and token at `UTILISED` of the peak that the maker's data sheet names; attention is
    left out."""
    a_token = 2 * parameters / (flops * UTILISED)
    return PromptEngine(title, kv_bytes, lambda tokens: tokens * a_token, 32_768, False)


COMPUTED: Final = (
    computed_engine("Llama 3.1 8B on an L4 (computed)", 8.03e9, 131_072, 121e12),
    computed_engine("Llama 3.1 8B on an H100 (computed)", 8.03e9, 131_072, 989e12),
    computed_engine("Llama 3.1 70B on 8 H100 (computed)", 70.6e9, 327_680, 8 * 989e12),
)
"""Dense bf16 peaks of NVIDIA's data sheets (L4: 121 TFLOPS, H100 SXM: 989). KV of a token: layers x 2 x KV heads x 128
x 2 bytes."""


def measured_engine(
    title: str, kv_bytes: int, points: Sequence[tuple[int, float]], *, block: int = BLOCK
) -> PromptEngine:
    """`points`: (tokens, seconds), rising; straight lines between them."""

    def seconds(tokens: float) -> float:
        before = (0.0, 0.0)
        for point in points:
            if tokens <= point[0]:
                share = (tokens - before[0]) / (point[0] - before[0])
                return before[1] + share * (point[1] - before[1])
            before = point
        return points[-1][1] * tokens / points[-1][0]

    return PromptEngine(title, kv_bytes, seconds, points[-1][0], True, block)


def needed(engine: PromptEngine, tokens: int, search_s: float) -> float:
    """Bytes a second that a link must carry so that a prompt's blocks are sooner had by name; infinite where none is
    enough."""
    blocks = (tokens - 1) // engine.block * engine.block
    saved = engine.seconds(tokens) - engine.seconds(tokens - blocks) - search_s - ROUND_TRIP_S
    return engine.kv_bytes * blocks / saved if blocks and saved > 0 else math.inf


# ---------------------------------------------------------------- the plot

WIDTH, HEIGHT = 860, 470
LEFT, RIGHT, TOP, BOTTOM = 80, 560, 50, 410
TOKENS: Final = (128, 32_768)
SPEEDS: Final = (1e6, 1e12)
"""Bits a second."""
_SMALL: Final = 'font-size="11"'
_LEGEND: Final = 28
"""Height of two lines of words: those of curves that end close together stand one below the other."""
_WORDS: Final = {6: "1 Mbit/s", 7: "10", 8: "100", 9: "1 Gbit/s", 10: "10", 11: "100", 12: "1 Tbit/s"}


def _x(tokens: float) -> float:
    return LEFT + (RIGHT - LEFT) * math.log(tokens / TOKENS[0]) / math.log(TOKENS[1] / TOKENS[0])


def _y(bits: float) -> float:
    share = math.log(bits / SPEEDS[0]) / math.log(SPEEDS[1] / SPEEDS[0])
    return BOTTOM - (BOTTOM - TOP) * min(max(share, 0.0), 1.0)


def plot(engines: Sequence[PromptEngine], search_s: float, verified: float, machine: str) -> str:
    """SVG. `verified`: bytes a second that one process verifies and places."""
    parts = [text(LEFT, 24, "Link speed above which a prompt's KV is sooner had by name than computed", "")]
    for power, words in _WORDS.items():
        parts += [line((LEFT, _y(10**power)), (RIGHT, _y(10**power)), GRID)]
        parts += [text(LEFT - 6, _y(10**power) + 4, words, f"{END} {_SMALL}")]
    tokens = TOKENS[0]
    while tokens <= TOKENS[1]:
        parts += [line((_x(tokens), TOP), (_x(tokens), BOTTOM), GRID)]
        parts += [text(_x(tokens), BOTTOM + 16, f"{tokens:,}", f"{MIDDLE} {_SMALL}")]
        tokens *= 4
    parts += [text((LEFT + RIGHT) / 2, BOTTOM + 36, "tokens of the prompt", MIDDLE)]
    limit = _y(verified * 8)
    parts += [line((LEFT, limit), (RIGHT, limit), DARK, dashes="2 3")]
    parts += _legend(limit, DARK, f"what one process verifies: {verified / 1e6:.0f} MB/s", "above it no link helps")
    ends = []
    for engine, colour in zip(engines, (BLUE, GREEN, ORANGE, PINK, GREY), strict=False):
        points = _curve(engine, search_s)
        if points:
            parts += [polyline(points, colour, dashes="" if engine.measured else "6 4")]
            ends.append((points[-1][1], colour, engine))
    at = float(TOP)
    for y, colour, engine in sorted(ends, key=lambda end: end[0]):
        at = max(y, at)
        if abs(at - limit) < _LEGEND:
            at = limit + _LEGEND
        parts += _legend(at, colour, engine.title, f"{engine.kv_bytes:,} B a token")
        at += _LEGEND
    parts += [
        text(LEFT, HEIGHT - 8, f"measured on {machine}; search {search_s * 1e3:.1f} ms, round trip 20 ms", _SMALL)
    ]
    return page(WIDTH, HEIGHT, parts)


def _legend(y: float, colour: str, words: str, more: str) -> list[str]:
    return [
        text(RIGHT + 8, y, words, f'fill="{colour}" {_SMALL}'),
        text(RIGHT + 8, y + 12, more, f'fill="{DARK}" {_SMALL}'),
    ]


def _curve(engine: PromptEngine, search_s: float) -> list[Point]:
    points = []
    for step in range(4, 4 * int(math.log2(TOKENS[1])) + 1):
        tokens = round(2 ** (step / 4))
        bits = needed(engine, tokens, search_s) * 8
        if TOKENS[0] < tokens <= engine.longest and bits < SPEEDS[1]:
            points.append((_x(tokens), _y(bits)))
    return points
