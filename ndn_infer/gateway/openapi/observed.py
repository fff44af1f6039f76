"""What the gateway tells about itself and the network: GET /metrics and /network/..., as OpenAPI has it.

Owns: these paths, their parameters, what they give. Pure. Must not know: how any of it is known. What a field of their
documents means stands in docs/page.md and docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer.gateway.openapi.schemas import Schema, array, integer, record, text

_ANY: Final[Schema] = {"type": "object"}
_TEXT: Final = "text/plain"
EVENTS: Final = "text/event-stream"
_IN_PATH: Final[Mapping[str, Schema]] = {
    "answer": text(128, 1), "row": integer(0, 9999), "packet": integer(0, 999_999),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Observed:
    """One path. `open`: wants no key; `refused`: statuses of refusals, beside that of a key that is missing."""

    summary: str
    schema: Schema
    media: str = "application/json"
    open: bool = False
    refused: tuple[int, ...] = (403, 404)


OBSERVED: Final[Mapping[str, Observed]] = {
    "/metrics": Observed("Counters and times, for Prometheus", text(), _TEXT, refused=()),
    "/network/about": Observed("Whether a key is wanted, and what colours mean", _ANY, open=True, refused=(404,)),
    "/network/answers": Observed("The last answers of this key", record({"answers": array(_ANY)}, ("answers",))),
    "/network/answers/events": Observed("The same whenever it changes", text(), EVENTS, refused=(403, 404, 429)),
    "/network/answers/{answer}": Observed("The names, packets and tokens of an answer", _ANY),
    "/network/answers/{answer}/events": Observed("What is new of it", text(), EVENTS, refused=(403, 404, 429)),
    "/network/answers/{answer}/packets/{row}/{packet}": Observed("One packet, field by field, and who signed it", _ANY),
    "/network/map": Observed("Nodes, faces, rates and caches", _ANY, refused=(403, 404, 503)),
    "/network/map/events": Observed("The same whenever it changes", text(), EVENTS, refused=(403, 404, 429)),
}


def parameters_of(path: str) -> list[dict[str, Any]]:
    """Of the path itself."""
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _IN_PATH.items()
        if f"{{{name}}}" in path
    ]
