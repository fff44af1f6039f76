"""What a producer and its vLLM process say to each other: JSON, one message a line, over a pipe that nobody else has.

Owns: these messages, and their lines. Pure. Must not know: pipes, vLLM, answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ndn_infer.errors import ModelError

MOST_LINE: Final = 64 << 20
"""Bytes of one message: a prompt of a million tokens fits."""

GONE: Final = "gone"
"""How an answer ends whose vLLM is gone."""

Told = tuple[int, float, tuple[tuple[int, float], ...]]
"""A token, its log probability, the likeliest tokens with theirs."""


@dataclass(frozen=True, slots=True)
class Begin:
    """To vLLM: make an answer. `params`: arguments of SamplingParams. `salt`: its cache is shared with the same salt
    only; "" with all that have none."""

    number: int
    ids: tuple[int, ...]
    params: dict[str, Any]
    salt: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """To vLLM: make no more of it."""

    number: int


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """From vLLM, first of all: what it is. `implementation`: of the engine class, a digest of all that decides bits in
    it. `context` and `vocabulary`: of the model as it is served; `places`: answers that are computed at a time."""

    dtype: str
    weights: str
    implementation: str
    machine: str
    context: int
    vocabulary: int
    places: int
    block_tokens: int


@dataclass(frozen=True, slots=True)
class Made:
    """From vLLM: what one step gave one answer. `scores`: of the prompt's tokens, before the first token. `finish`: ""
    while it goes on, then stop, length, "error: ...", or GONE. `cached`: tokens of the prompt that were not computed
    for it.
    `waited_s` and `prompt_s`, with the first token: in vLLM's queue, and from there to it. `spent_s`: this answer's
    share of the processor time of vLLM's processes since the message before."""

    number: int
    tokens: tuple[Told, ...] = ()
    scores: tuple[Told, ...] = ()
    finish: str = ""
    cached: int = 0
    waited_s: float = 0.0
    prompt_s: float = 0.0
    spent_s: float = 0.0


Message = Begin | Stop | EngineFacts | Made
_KINDS: Final[dict[str, type[Any]]] = {kind.__name__: kind for kind in (Begin, Stop, EngineFacts, Made)}


def line_of(message: Message) -> bytes:
    return json.dumps({"is": type(message).__name__, **asdict(message)}, separators=(",", ":")).encode() + b"\n"


def read(line: bytes) -> Message:
    """Raises ModelError for what is no message."""
    try:
        found = json.loads(line)
        message: Message = _KINDS[found.pop("is")](**{key: _frozen(key, value) for key, value in found.items()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"vLLM's process said {line[:200]!r}") from error
    return message


def _frozen(key: str, value: Any) -> Any:
    if key == "ids":
        return tuple(value)
    return told(value) if key in ("tokens", "scores") else value


def told(pieces: Sequence[Any]) -> tuple[Told, ...]:
    return tuple((token, logprob, tuple((other, of) for other, of in top)) for token, logprob, top in pieces)
