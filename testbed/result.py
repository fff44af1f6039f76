"""The result of a scenario: one JSON document, whatever world it ran in.

Owns: what is recorded while it runs, the document, its figures, and reading it again. Pure. Must not know: worlds,
plots.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ndn_infer.errors import UsageError

Value = float | int | str

FORMAT: Final = 1
"""Of the document; a reader refuses others."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that a run shows: whether it holds, and the number that says so."""

    claim: str
    holds: bool
    value: Value


class Row(Protocol):
    """An asked row (world.PromptOutcome): what figures and plots read of it."""

    @property
    def ttft_s(self) -> float: ...
    @property
    def gaps_s(self) -> Sequence[float]: ...
    @property
    def per_token_s(self) -> float: ...
    @property
    def complete(self) -> bool: ...
    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def continued(self) -> int: ...


@dataclass(slots=True)
class RunRecord:
    """What is collected while a scenario runs. A world holds one and adds to it."""

    asked: list[Any] = field(default_factory=list)
    """world.PromptOutcome, in the order in which they ended."""
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    """(seconds since the beginning, what the scenario did): "kill core/decode"."""
    details: dict[str, Any] = field(default_factory=dict)
    """What this scenario alone has to tell, as JSON."""
    tables: list[str] = field(default_factory=list)
    """For people; not in the document."""

    def claim(self, name: str, holds: bool, value: Value) -> None:
        self.claims.append(Claim(name, bool(holds), value))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    @property
    def holds(self) -> bool:
        """A run that claims nothing shows nothing."""
        return bool(self.claims) and all(claim.holds for claim in self.claims)


def percentile(values: Iterable[float], percent: float) -> float:
    """Nearest rank; NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def figures(rows: Sequence[Row]) -> dict[str, Value]:
    """Of the complete answers: times in seconds."""
    done = [row for row in rows if row.complete]
    found: dict[str, Value] = {
        "asked": len(rows), "complete": len(done), "continued": sum(row.continued for row in rows),
        "tokens": sum(len(row.ids) for row in rows),
    }  # fmt: skip
    firsts = [row.ttft_s for row in done if row.ids]
    gaps = [gap for row in done for gap in row.gaps_s]
    each = [row.per_token_s for row in done if len(row.ids) > 1]
    for name, values in (("ttft", firsts), ("gap", gaps), ("per_token", each)):
        if values:
            found[f"{name}_p50_s"] = round(percentile(values, 50), 6)
            found[f"{name}_p99_s"] = round(percentile(values, 99), 6)
            found[f"{name}_max_s"] = round(max(values), 6)
    return found


def loads(text: str) -> dict[str, Any]:
    """A result document. Raises UsageError for anything else."""
    hint = "a result is what 'ndn-infer testbed run SCENARIO --json' prints"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"this is no JSON: {error}", hint=hint) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UsageError("this is no result of a scenario", hint=hint)
    return document


def dumps(document: Mapping[str, Any]) -> str:
    """One line; numbers that are none (NaN) are refused."""
    return json.dumps(document, allow_nan=False)


def report(found: dict[str, Any]) -> list[str]:
    """For people: figures, then what was claimed."""
    lines = ["", *(f"  {name:20} {value}" for name, value in found["figures"].items()), ""]
    lines.append("verdict: " + ("it holds" if found["holds"] else "it does NOT hold"))
    lines += [f"  {'yes' if row['holds'] else 'NO ':4} {row['claim']} ({row['value']})" for row in found["claims"]]
    return lines
