"""What a run of the testbed shows: counters before and after each question, their differences, and the verdict.

Owns: the claims that a run must prove, and the table. Pure, standard library alone: the Mini-NDN script, which runs
under another interpreter, uses it too. Must not know: where counters come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

DEFAULT_PROMPT: Final = "What is the capital of France?"
DEFAULT_EXPECT: Final = "Paris"

FACE_COUNTERS: Final = ("in_interests", "in_data", "out_interests", "out_data")


@dataclass(frozen=True, slots=True)
class NodeCounters:
    """One forwarder: its Content Store, packets on the faces to its neighbours (neighbour -> counter -> number), and on
    the faces of this machine's applications, all together (empty where nobody counted them)."""

    cs_entries: int
    cs_hits: int
    cs_misses: int
    faces: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    applications: Mapping[str, int] = field(default_factory=dict)

    def sums(self) -> tuple[int, int, int]:
        """Data received and sent over all faces, and Content Store hits."""
        rows = [*self.faces.values(), self.applications]
        return (
            sum(row.get("in_data", 0) for row in rows), sum(row.get("out_data", 0) for row in rows), self.cs_hits,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Forwarders by node, producers' own counters by "node/role"."""

    nodes: Mapping[str, NodeCounters]
    producers: Mapping[str, Mapping[str, float]]


def produced(before: Snapshot, after: Snapshot, role: str) -> dict[str, float]:
    """By how much each counter of the producers of a role grew, all nodes together; one that was started again
    meanwhile counts from then."""
    grown: dict[str, float] = {}
    for key, counters in after.producers.items():
        if key.rpartition("/")[2] == role:
            for name, value in counters.items():
                old = before.producers.get(key, {}).get(name, 0.0)
                grown[name] = grown.get(name, 0.0) + value - (old if old <= value else 0.0)
    return grown


@dataclass(frozen=True, slots=True)
class AskEvidence:
    """One `ask --json` (or what a world's `ask` gave), and the snapshots around it."""

    answer: Mapping[str, Any]
    before: Snapshot
    after: Snapshot

    @property
    def ids(self) -> list[int]:
        return list(self.answer.get("token_ids", self.answer.get("ids", ())))

    def face(self, node: str, neighbour: str, counter: str) -> int:
        """By how much a face counter grew."""
        old = self.before.nodes[node].faces.get(neighbour, {}).get(counter, 0)
        return self.after.nodes[node].faces[neighbour][counter] - old

    def hits(self, node: str) -> int:
        return self.after.nodes[node].cs_hits - self.before.nodes[node].cs_hits

    def produced(self, role: str) -> dict[str, float]:
        """By how much each counter of the producers of a role grew, all nodes together."""
        return produced(self.before, self.after, role)

    def worked(self) -> dict[str, float]:
        """Every producer counter that moved, as "node/role counter"."""
        moved = {}
        for key, counters in self.after.producers.items():
            for name, value in counters.items():
                grown = value - self.before.producers.get(key, {}).get(name, 0.0)
                if grown:
                    moved[f"{key} {name}"] = grown
        return moved


@dataclass(frozen=True, slots=True)
class Check:
    """One claim: whether it holds, and the numbers that say so."""

    claim: str
    holds: bool
    numbers: str


def judge(first: AskEvidence, second: AskEvidence, *, expect: str, roles: Mapping[str, str]) -> list[Check]:
    """The claims of the three-node story. `roles`: role -> node; `expect` is part of the right answer ("" for any).

    The second question is the same prompt: nothing may be computed for it, and caches on the way must have answered.
    """
    text = str(first.answer.get("text", "")).strip()
    checks = [
        Check("the first answer is right", bool(text) and expect.casefold() in text.casefold(), repr(text[:60])),
        *_kv_travelled(first, roles),
        Check(
            "the second answer is the same",
            bool(text) and second.ids == first.ids,
            f"{len(second.ids)} tokens",
        ),
    ]
    moved = second.worked()
    words = ", ".join(f"{key} +{value:g}" for key, value in moved.items()) or "no counter of any producer moved"
    checks.append(Check("no producer worked for the second answer", not moved, words))
    hits = {node: second.hits(node) for node in second.after.nodes}
    words = ", ".join(f"{node} {count}" for node, count in hits.items())
    checks.append(Check("Content Stores gave the second answer", any(hits.values()), f"hits: {words}"))
    return checks


def _kv_travelled(first: AskEvidence, roles: Mapping[str, str]) -> list[Check]:
    """KV cache was computed where prefill runs, and fetched by name by where decode runs."""
    prefill, decode = first.produced("prefill"), first.produced("decode")
    computed = prefill.get("prefill_blocks_computed", 0.0)
    fetched, own = decode.get("kv_blocks_fetched", 0.0), decode.get("prefill_blocks_computed", 0.0)
    there, here = roles["prefill"], roles["decode"]
    arrived = sum(first.face(here, neighbour, "in_data") for neighbour in first.after.nodes[here].faces)
    return [
        Check(f"KV cache was computed at {there}", computed > 0, f"{computed:g} blocks"),
        Check(
            f"{here} fetched it by name",
            0 < fetched == computed and own == 0,
            f"{fetched:g} blocks fetched, {own:g} computed there",
        ),
        Check(f"it came to {here} over the network", there == here or arrived >= fetched > 0, f"{arrived} Data in"),
    ]


def table(first: AskEvidence, second: AskEvidence) -> str:
    """For people: every forwarder's counters at three moments, and what each question added."""
    head = f"{'forwarder':12}{'':22}{'before':>9}{'after 1st':>11}{'after 2nd':>11}{'1st':>8}{'2nd':>8}"
    lines = [head]
    for node in first.before.nodes:
        shots = [first.before.nodes[node], first.after.nodes[node], second.after.nodes[node]]
        between = second.before.nodes[node]  # whatever reading the counters added lies between both questions
        rows = [
            ("Content Store entries", [shot.cs_entries for shot in shots], between.cs_entries),
            ("Content Store hits", [shot.cs_hits for shot in shots], between.cs_hits),
        ]
        for neighbour in shots[-1].faces:
            for name in FACE_COUNTERS:
                words = name.replace("_", " ").replace("interests", "Interests").replace("data", "Data")
                values = [shot.faces.get(neighbour, {}).get(name, 0) for shot in shots]
                rows.append((f"{neighbour}: {words}", values, between.faces.get(neighbour, {}).get(name, 0)))
        for index, (label, values, middle) in enumerate(rows):
            lines.append(_row(node if not index else "", label, values, middle))
    lines.append(f"{'producer':34}{'before':>9}{'after 1st':>11}{'after 2nd':>11}{'1st':>8}{'2nd':>8}")
    lines += _producer_rows(first, second)
    return "\n".join(lines)


def _row(owner: str, label: str, values: Sequence[float], middle: float) -> str:
    grown = (values[1] - values[0], values[2] - middle)
    return f"{owner:12}{label:22}{values[0]:9g}{values[1]:11g}{values[2]:11g}{grown[0]:+8g}{grown[1]:+8g}"


def _producer_rows(first: AskEvidence, second: AskEvidence) -> list[str]:
    lines = []
    for key, last in second.after.producers.items():
        for index, name in enumerate(sorted(last)):
            values = [shot.producers.get(key, {}).get(name, 0.0) for shot in (first.before, first.after)]
            middle = second.before.producers.get(key, {}).get(name, 0.0)
            lines.append(f"{key if not index else '':16}  {_row('', name, [*values, last[name]], middle)[12:]}"[:200])
    return lines
