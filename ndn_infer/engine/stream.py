"""What the engine keeps of a stream and says about it.

Owns: one sequence in the making, the output of a step, counters. Must not know: how anything is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ndn_infer.engine.sampler import SamplingParams

if TYPE_CHECKING:
    from ndn_infer.engine.kv_cache import KvCache


@dataclass(slots=True)
class Counters:
    """Since the engine was loaded."""

    tokens_prefilled: int = 0
    blocks_prefilled: int = 0
    """Full blocks of prompts that were computed here."""
    blocks_imported: int = 0
    tokens_decoded: int = 0
    streams_active: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(eq=False, slots=True)
class Stream:
    """One sequence in the making. Its blocks can be exported as long as somebody holds it and nobody cancelled it."""

    number: int
    prompt: tuple[int, ...]
    params: SamplingParams
    cache: KvCache | None
    generated: list[int] = field(default_factory=list)
    finished: str | None = None


class StepOutput(NamedTuple):
    """`finished`: None while the stream goes on, then "stop" (a stop id came) or "length"."""

    stream: Stream
    token_id: int
    logprob: float
    finished: str | None
