"""The plots of a result: one page of SVG for one scenario.

Owns: which panels there are and what they show. Pure: a document in, text out. Must not know: files, how a result came
to be. Panels: what happened when; time to the first token; gaps between arrivals; bytes by link; Data by forwarder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer.errors import UsageError
from ndn_infer.testbed.svg import (
    BLUE,
    DARK,
    END,
    GREEN,
    GREY,
    GRID,
    MIDDLE,
    ORANGE,
    Point,
    bar,
    line,
    page,
    polyline,
    text,
)

WIDTH: Final = 960
ROWS_SHOWN: Final = 120
BARS_SHOWN: Final = 16
_SMALL: Final = 'font-size="11"'


@dataclass(frozen=True, slots=True)
class Panel:
    """A rectangle with a title; `x` and `y` of a share (0 to 1) of its width and height."""

    left: float
    top: float
    width: float
    height: float

    def x(self, share: float) -> float:
        return self.left + self.width * min(1.0, max(0.0, share))

    def y(self, share: float) -> float:
        return self.top + self.height * (1 - min(1.0, max(0.0, share)))

    def frame(self, title: str) -> list[str]:
        corners = [(self.x(0), self.y(1)), (self.x(0), self.y(0)), (self.x(1), self.y(0))]
        return [text(self.left, self.top - 10, title, 'font-weight="bold"'), polyline(corners, DARK)]


def render(document: Mapping[str, Any]) -> str:
    """The page. Raises UsageError for a document in which something that is drawn is missing."""
    try:
        parts, height = _parts(document)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UsageError(f"the result cannot be drawn: {type(error).__name__}: {error}") from error
    return page(WIDTH, height, parts)


def _parts(document: Mapping[str, Any]) -> tuple[list[str], int]:
    asked = document["asked"]
    rows = min(len(asked), ROWS_SHOWN)
    story = Panel(60, 100, 860, max(60, 8 * rows))
    below = story.top + story.height + 70
    bars = below + 220 + 90
    parts = [*_head(document), *_story(story, document)]
    parts += _shares(Panel(60, below, 390, 220), "time to the first token", [row["ttft_s"] for row in _told(asked)])
    gaps = [gap for row in _told(asked) for gap in row["gaps_s"]]
    parts += _shares(Panel(530, below, 390, 220), "gaps between arrivals", gaps)
    links = sorted(document["links"], key=lambda link: -(link["forth"] + link["back"]))[:BARS_SHOWN]
    copies = sorted(document["copies"].items(), key=lambda item: -item[1]["data_out"])[:BARS_SHOWN]
    count = max(len(links), len(copies), 1)
    parts += _bars(Panel(190, bars, 260, 30 * count), "bytes by link (each direction)", {
        f"{link['first']} - {link['second']}": ((BLUE, link["forth"]), (GREEN, link["back"])) for link in links
    })  # fmt: skip
    parts += _bars(Panel(640, bars, 260, 30 * count), "Data in, out; answered by the Content Store", {
        node: ((BLUE, row["data_in"]), (GREEN, row["data_out"]), (ORANGE, row["from_store"])) for node, row in copies
    })  # fmt: skip
    return parts, int(bars + 30 * count + 40)


def _told(asked: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in asked if not row["error"] and row["ids"]]


def _head(document: Mapping[str, Any]) -> list[str]:
    verdict = "every claim holds" if document["holds"] else "NOT every claim holds"
    words = f"{document['world']}, {document['forwarder']}, commit {document['commit'] or 'unknown'}: {verdict}"
    return [
        text(60, 30, f"{document['scenario']}: {document['about']}", 'font-size="16"'),
        text(60, 52, words, f'fill="{DARK if document["holds"] else ORANGE}"'),
    ]


# ---------------------------------------------------------------- panels


def _story(panel: Panel, document: Mapping[str, Any]) -> list[str]:
    """A line for every question, thin until its first token; what the scenario broke and mended across them."""
    asked = sorted(document["asked"], key=lambda row: row["began_s"])[:ROWS_SHOWN]
    length = max([document["total_s"], *(row["began_s"] + row["total_s"] for row in asked)], default=0.0) or 1.0
    parts = panel.frame(f"questions over {length:.1f} s (thin until the first token; orange: not answered)")
    for when, what in document["events"]:
        x = panel.x(when / length)
        parts.append(line((x, panel.y(0)), (x, panel.y(1)), GREY, dashes="4 3"))
        parts.append(text(x + 3, panel.y(1) + 10, what, _SMALL))
    for number, row in enumerate(asked):
        y = panel.y(1 - (number + 0.5) / len(asked))
        began, first = row["began_s"], row["began_s"] + row["ttft_s"]
        end = row["began_s"] + row["total_s"]
        colour = ORANGE if row["error"] else BLUE
        parts.append(line((panel.x(began / length), y), (panel.x(first / length), y), colour))
        parts.append(line((panel.x(first / length), y), (panel.x(end / length), y), colour, width=3))
    return parts


def _shares(panel: Panel, title: str, seconds: Sequence[float]) -> list[str]:
    """What share of them took no longer than so many seconds (logarithmic)."""
    parts = panel.frame(f"{title}: {len(seconds)}")
    for share in (0.25, 0.5, 0.75, 0.99):
        parts += [
            line((panel.x(0), panel.y(share)), (panel.x(1), panel.y(share)), GRID),
            text(panel.left - 6, panel.y(share) + 4, f"{share:.0%}", f"{END} {_SMALL}"),
        ]
    values = sorted(max(1e-6, float(value)) for value in seconds)
    if not values:
        return parts
    low, high = math.floor(math.log10(values[0])), math.ceil(math.log10(values[-1]) + 1e-9)
    span = max(1, high - low)
    for power in range(low, low + span + 1):
        x = panel.x((power - low) / span)
        parts += [line((x, panel.y(0)), (x, panel.y(0) + 5), DARK), text(x, panel.y(0) + 20, _seconds(power), MIDDLE)]
    points: list[Point] = [(panel.x((math.log10(values[0]) - low) / span), panel.y(0))]
    for number, value in enumerate(values, 1):
        x = panel.x((math.log10(value) - low) / span)
        points += [(x, points[-1][1]), (x, panel.y(number / len(values)))]
    return [*parts, polyline(points, BLUE)]


def _seconds(power: int) -> str:
    """10 to this power, in the unit that people use."""
    unit, scale = ("s", 0) if power >= 0 else ("ms", 3) if power >= -3 else ("us", 6)
    return f"{10 ** (power + scale)} {unit}"


def _bars(panel: Panel, title: str, rows: Mapping[str, Sequence[tuple[str, int]]]) -> list[str]:
    """Groups of bars, each group with its label and every bar with its number."""
    most = max([value for group in rows.values() for _, value in group], default=0) or 1
    parts = panel.frame(title)
    for number, (label, group) in enumerate(rows.items()):
        top, thick = panel.top + 30 * number + 3, 24 / len(group)
        parts.append(text(panel.left - 6, top + 16, label, END))
        for index, (colour, value) in enumerate(group):
            y = top + index * thick
            parts.append(bar(panel.left, y, panel.width * value / most, thick - 1, colour))
            parts.append(text(panel.x(value / most) + 4, y + thick - 2, f"{value:,}", 'font-size="9"'))
    return parts
