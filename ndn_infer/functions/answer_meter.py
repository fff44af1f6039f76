"""What one answer enters into the meters of its process: times and tokens, from the call to the last token.

Owns: which moment ends which time. Must not know: how tokens are made, how meters are exposed. Times are of
clock.monotonic.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from ndn_infer import clock
from ndn_infer.functions.base import Host
from ndn_infer.metrics import catalogue as m
from ndn_infer.metrics.meters import Meters
from ndn_infer.records import GenerateRequest
from ndn_infer.records.receipt import PromptTokens
from ndn_infer.telemetry.spans import current

DIGITS: Final = 12
"""Of the model's digest, in a span."""


class AnswerMeter:
    """`turn`, `loaded`, `token` for each token, `ended` once; what did not happen is not entered."""

    def __init__(self, meters: Meters, model: str, prompt_tokens: int) -> None:
        """The call was accepted now."""
        self._meters = meters
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._tokens = 0
        self._over = False
        self.accepted = self._began = self._last = clock.monotonic()
        self.first_token: float | None = None
        self.span = current()
        if self.span is not None:
            self.span.kept = True  # it ends with the answer
        self.waited_s = 0.0
        """In the engine's queue, after its turn came."""

    def turn(self) -> None:
        """Its prompt is begun now."""
        self._began = clock.monotonic()
        self._tell("turn")

    def loaded(self) -> None:
        """KV that others hold is here now."""
        self._tell("kv loaded")
        self._meters.observe(m.KV_LOAD, clock.monotonic() - self._began, self._model)

    def token(self, at: float = 0.0) -> None:
        """A token came, now unless `at` says when."""
        now, meters, model = at or clock.monotonic(), self._meters, self._model
        meters.add(m.GENERATION_TOKENS, model)
        self._tokens += 1
        if self.first_token is None:
            self.first_token = now
            self._tell("first token")
            queue_s = self._began - self.accepted + self.waited_s
            meters.observe(m.FIRST_TOKEN, now - self.accepted, model)
            meters.observe(m.QUEUE, queue_s, model)
            meters.observe(m.PREFILL, max(now - self.accepted - queue_s, 0.0), model)
        else:
            meters.observe(m.INTER_TOKEN, now - self._last, model)
        self._last = now

    def prompt_from(self, prompt: PromptTokens) -> None:
        """Where the KV of the prompt came from."""
        sources = {
            "content_store": prompt.content_store, "peer": prompt.peer, "producer": prompt.producer,
            "local": prompt.local, "recompute": prompt.computed,
        }  # fmt: skip
        for source, tokens in sources.items():
            self._meters.add(m.PROMPT_TOKENS, self._model, source, by=tokens)
        self._meters.observe(m.REQUEST_COMPUTED, prompt.computed, self._model)
        if self.span is not None:
            self.span.attributes["gen_ai.usage.cache_read.input_tokens"] = prompt.total - prompt.computed

    def _tell(self, event: str) -> None:
        if self.span is not None:
            self.span.event(event)

    def _end_span(self, finish: str) -> None:
        if self.span is None:
            return
        self.span.attributes |= {
            "gen_ai.operation.name": "text_completion", "gen_ai.provider.name": "ndn-infer",
            "gen_ai.request.model": self._model[:DIGITS], "gen_ai.response.finish_reasons": (finish,),
            "gen_ai.usage.input_tokens": self._prompt_tokens, "gen_ai.usage.output_tokens": self._tokens,
        }  # fmt: skip
        self.span.end("error" if finish == "error" else "")

    def ended(self, finish: str) -> None:
        """For this reason; of several only the first counts."""
        if self._over:
            return
        self._over = True
        self._end_span(finish)
        now, meters, model = clock.monotonic(), self._meters, self._model
        meters.add(m.REQUESTS, model, finish)
        meters.observe(m.REQUEST, now - self.accepted, model)
        meters.observe(m.REQUEST_PROMPT, self._prompt_tokens, model)
        meters.observe(m.REQUEST_TOKENS, self._tokens, model)
        if self.first_token is not None:
            meters.observe(m.INFERENCE, self._last - self._began - self.waited_s, model)
            if self._tokens > 1:
                meters.observe(m.PER_TOKEN, (self._last - self.first_token) / (self._tokens - 1), model)
            meters.observe(m.DECODE, self._last - self.first_token, model)


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """Where an answer is counted: `counters` of the status record, `meter` for whoever runs this process."""

    counters: Counter[str]
    meter: AnswerMeter

    @classmethod
    def of(cls, host: Host, model: str, request: GenerateRequest) -> AnswerCounts:
        """For a call that is accepted now."""
        return cls(host.counters, AnswerMeter(host.meters, model, len(request.prompt)))
