"""Receipts: what an answer took, as its producer counts it, in its last signed event.

Owns: these records. Must not know: how anything is counted (functions/receipts.py, engine/step_costs.py), prices.

Whole numbers, so that sums are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from ndn_infer.records.bounds import AtMost, Label, Size, TokenCount, Uri
from ndn_infer.records.forms import Reply

MAX_STAGES: Final = 64


@dataclass(frozen=True, slots=True)
class PromptTokens(Reply):
    """Tokens of a prompt by where their KV came from: a cache of the network, another holder, a prefill producer that
    was asked, this process (it was at hand, or another stream had it), or computed for this answer."""

    content_store: TokenCount = 0
    peer: TokenCount = 0
    producer: TokenCount = 0
    local: TokenCount = 0
    computed: TokenCount = 0

    @property
    def total(self) -> int:
        return self.content_store + self.peer + self.producer + self.local + self.computed


@dataclass(frozen=True, slots=True)
class Energy(Reply):
    """What a meter read while an answer was computed, in its share of each step. `source` names the meter."""

    millijoules: Size
    source: Label


@dataclass(frozen=True, slots=True)
class StageSpent(Reply):
    """CPU time that a stage of a pipeline says its layers took in the steps of an answer. `identity`: its URI."""

    identity: Uri
    prefill_us: Size = 0
    decode_us: Size = 0


@dataclass(frozen=True, slots=True)
class Receipt(Reply):
    """What one answer took at the producer that signs it.

    `prefill_us` and `decode_us`: CPU time of the engine's thread in steps for this answer (of a step that serves
    several, the share of the tokens computed); `helpers_us`: that of the threads among which torch splits an operation,
    in both. `bytes_in`: of the request, and of KV blocks that came from others; `bytes_out`: of the events that had
    left when this one was made. `energy`: None where there is no meter. `stages`: of a pipeline those before the one
    that signs this; what they took is no part of the numbers above.
    """

    engine: Label = ""
    prompt: PromptTokens = PromptTokens()
    output_tokens: TokenCount = 0
    prefill_us: Size = 0
    decode_us: Size = 0
    helpers_us: Size = 0
    bytes_in: Size = 0
    bytes_out: Size = 0
    energy: Energy | None = None
    stages: Annotated[tuple[StageSpent, ...], AtMost(MAX_STAGES)] = ()
