"""What is asked of a classifier, and its scores.

Owns: these records. Must not know: models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from ndn_infer.records.bounds import MAX_TEXT, AtMost, Between, Label
from ndn_infer.records.forms import Reply, Request

MAX_TEXTS: Final = 256


@dataclass(frozen=True, slots=True)
class ClassifyRequest(Request):
    texts: Annotated[tuple[Annotated[str, AtMost(MAX_TEXT)], ...], AtMost(MAX_TEXTS)]


@dataclass(frozen=True, slots=True)
class ScoreRow(Reply):
    """Of one text, a score from 0 to 1 for each label."""

    values: Annotated[tuple[Annotated[float, Between(0, 1)], ...], AtMost(64)]


@dataclass(frozen=True, slots=True)
class Scores(Reply):
    """Rows as the texts of the request, columns as `labels`."""

    labels: Annotated[tuple[Label, ...], AtMost(64)]
    rows: Annotated[tuple[ScoreRow, ...], AtMost(MAX_TEXTS)]
