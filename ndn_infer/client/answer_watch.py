"""What a reader of answers enters into the meters of its process.

Owns: times as the reader sees them, what answers rest on, tokens that nobody computed for them. Must not know: how an
answer is read (conversation.py), how meters are exposed. Times are of clock.monotonic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ndn_infer.metrics import catalogue as m
from ndn_infer.metrics.meters import Meters
from ndn_infer.namespace import label_of
from ndn_infer.records import KvSources
from ndn_infer.telemetry.spans import add_up, annotate
from ndn_infer.transport.objects.ledger import Use

UNFINISHED = "unfinished"


class AnswerWatch:
    """Of one answer; `model` is a digest."""

    def __init__(self, meters: Meters, model: str) -> None:
        self._meters = meters
        self._model = model
        self._last: float | None = None
        self._moves = 0
        self._tokens = 0

    def tokens(self, count: int, now: float, since_asked_s: float) -> None:
        """So many tokens came together."""
        meters, model = self._meters, self._model
        meters.add(m.C_TOKENS, model, by=count)
        self._tokens += count
        if self._last is None:
            meters.observe(m.C_FIRST_TOKEN, since_asked_s, model)
        else:
            meters.observe(m.C_INTER_TOKEN, now - self._last, model)
        self._last = now

    def ended(self, prompt_tokens: int, kv: KvSources | None, *, stored: bool) -> None:
        """The last event came."""
        self._meters.add(m.C_PROMPT_TOKENS, self._model, by=prompt_tokens)
        self._meters.add(m.C_CACHED_TOKENS, self._model, by=cached_tokens(prompt_tokens, kv, stored=stored))
        self._meters.add(m.C_STORED, self._model, by=stored)
        annotate("gen_ai.usage.input_tokens", prompt_tokens)
        add_up("gen_ai.usage.output_tokens", self._tokens)
        annotate("gen_ai.usage.cache_read.input_tokens", cached_tokens(prompt_tokens, kv, stored=stored))

    def left(self, finish: str, moves: int) -> None:
        """Nobody reads on, since there is nothing more or for another reason."""
        self._meters.add(m.C_ANSWERS, self._model, finish or UNFINISHED)
        self._meters.add(m.C_MOVES, self._model, by=moves - self._moves)
        self._moves = moves


class NamesWatch:
    """Of one ledger: what was entered since the last look."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str]] = Counter()

    def look(self, meters: Meters, uses: Iterable[Use]) -> None:
        for use in uses:
            key = use.kind, use.source
            meters.add(m.NAMES_USED, label_of(use.kind), label_of(use.source), by=use.uses - self._seen[key])
            self._seen[key] = use.uses


def cached_tokens(prompt_tokens: int, kv: KvSources | None, *, stored: bool) -> int:
    """Tokens of a prompt that nobody computed for this request, by the decode producer's word on its blocks."""
    if stored:
        return prompt_tokens
    if kv is None:
        return 0
    found, blocks = kv.local + kv.named, kv.local + kv.named + kv.prefilled + kv.recomputed
    return max(0, prompt_tokens - kv.tail_tokens) * min(found, blocks) // blocks if blocks else 0
