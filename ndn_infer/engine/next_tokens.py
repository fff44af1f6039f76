"""The next tokens of streams: guesses at them, choices, and which is the last.

Owns: what a stream needs for its choices, when it is guessed at and how far, when an answer ends. Must not know: how
logits are computed, blocks, whose turn it is, what a choice is made by (sampler.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ndn_infer.engine.published import AGREES, DIFFERS, MOST_ROWS
from ndn_infer.engine.sampler import Allowed, Choice, TokenHistory, choose, margin_of
from ndn_infer.engine.scoring import PromptScorer
from ndn_infer.engine.speculation import CopyDrafter, Drafter, NgramDrafter, RowPrice, verify
from ndn_infer.engine.stream import Counters, StepOutput, Stream
from ndn_infer.errors import EngineUnavailable, ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from ndn_infer.engine.grammar import Grammars, TokenMatcher
    from ndn_infer.records.sampling import Sampling

MakeDrafter = Callable[[Sequence[int]], Drafter]

SPECULATION: Final[dict[str, MakeDrafter | None]] = {"auto": CopyDrafter, "ngram": NgramDrafter, "off": None}
"""What makes a stream's drafter from its prompt."""

MOST_GUESSES: Final = 7
"""Guessed tokens of a stream in one step."""


class ModelLimits(NamedTuple):
    """Of a model. `context`: tokens that prompt and answer may have together. `row_share`: see speculation.RowPrice."""

    context: int
    row_share: float


class NextTokens:
    """Of the streams of one engine. `end(stream, how)` is called with the last token of each, or with an error."""

    def __init__(
        self, drafter: MakeDrafter | None, limits: ModelLimits, counters: Counters, end: Callable[[Stream, str], None]
    ) -> None:
        self.drafter = drafter
        self.grammars: Grammars | None = None
        """Of the model; None where there is no tokenizer."""
        self._context, self._price = limits.context, RowPrice(limits.row_share)
        self._counters = counters
        self._end = end

    def begin(self, stream: Stream, answered: int) -> None:
        """Before the first choice of a stream that wants tokens, the last `answered` ids of whose prompt are generated
        ones. Raises UsageError where its grammar cannot be, or these do not follow it."""
        params, prompt = stream.params, stream.prompt
        assert params is not None
        asked = len(prompt) - answered
        stream.history = TokenHistory(prompt[:asked], prompt[asked:]) if params.needs_history else None
        stream.drafter = stream.published or (self.drafter(prompt) if self.drafter else None)
        if params.score_prompt:
            stream.scorer = PromptScorer(prompt, params.logprobs)
        stream.matcher = self.matcher(params, prompt[asked:])

    def matcher(self, params: Sampling, answered: Sequence[int]) -> TokenMatcher | None:
        """Of an answer's grammar, when it has one: see Grammars.matcher."""
        if params.grammar is None:
            return None
        if self.grammars is None:
            raise EngineUnavailable("this engine has no tokenizer, so it takes no grammars")
        return self.grammars.matcher(params.grammar, answered)

    def guess(self, streams: Iterable[Stream]) -> None:
        """Speculation: guesses at the next tokens of each stream, verified in the same forward."""
        streams = list(streams)
        price = self._price.of(len(streams))
        for stream in streams:
            stream.guesses = []
            if stream.params is not None and self._at_its_end(stream):
                left = stream.params.max_tokens - len(stream.generated)
                most = MOST_ROWS if stream.published else MOST_GUESSES + 1
                room = min(left, self._context - stream.known, most) - 1
                stream.guesses = self._guesses(stream, room, price)[:room] if room > 0 else []
            stream.draft = len(stream.guesses)

    def took(self, rows: Sequence[tuple[Stream, int]], seconds: float) -> None:
        """The rows of a step, those of guesses among them, took so long."""
        self._price.took(len(rows), sum(count for _, count in rows), seconds)

    @staticmethod
    def _at_its_end(stream: Stream) -> bool:
        """The next token is to be chosen in this step. A published answer that brings KV along gets its guesses with
        the first rows."""
        if stream.published is not None and stream.ready:
            return max(stream.length, stream.ready) >= stream.prompt_tokens
        return stream.known - stream.length == 1

    @staticmethod
    def _guesses(stream: Stream, room: int, price: float) -> list[int]:
        """What the grammar forces, which is always right; else what a drafter proposes, as far as the grammar allows
        it."""
        matcher, drafter = stream.matcher, stream.drafter
        forced = matcher.forced() if matcher is not None and stream.published is None else []
        stream.drafted = drafter is not None and not forced
        if drafter is None or forced:
            return forced
        guesses = drafter.propose(room, price)
        return guesses if matcher is None else guesses[: matcher.valid(guesses)]

    def verify(self, stream: Stream, rows: list[Tensor]) -> list[StepOutput]:
        """The next token, and one more for each guess that was right, from `rows` of logits [vocab] after the known
        tokens and after each guess. Choices are by seed and position (sampler.py), so they are those of a stream
        without guesses, sampled or not: a guess is right when it is what gets chosen."""

        def choose_next(logits: Tensor) -> StepOutput:
            stream.length = stream.known
            return self.choose(stream, logits)

        outputs = verify(stream.guesses[: len(rows) - 1], rows, choose_next)
        self._counters.tokens_accepted += len(outputs) - 1
        if stream.drafter is not None and stream.drafted and len(rows) > 1:
            stream.drafter.outcome(len(rows) - 1, len(outputs) - 1)
        return outputs

    def choose(self, stream: Stream, logits: Tensor) -> StepOutput:
        """The next token from its logits [vocab], and whether it is the last."""
        assert (params := stream.params) is not None
        matcher = stream.matcher
        try:
            allowed = matcher.allowed() if matcher is not None else None
            choice = choose(logits.numpy(), params, stream.known, stream.history, allowed)
            if stream.published is not None and not self._compare(stream, logits, choice, allowed):
                self._end(stream, DIFFERS)
                return StepOutput(stream, choice.token, choice.logprob, stream.finished, choice.top)
            token, logprob, top = choice
            if matcher is not None:
                matcher.accept(token)
        except ModelError as error:  # of this stream: the others go on
            self._end(stream, f"error: {error}")
            return StepOutput(stream, -1, 0.0, stream.finished)
        stream.generated.append(token)
        if stream.history is not None:
            stream.history.add(token)
        if stream.drafter is not None:
            stream.drafter.extend([token])
        stream.known += 1
        self._counters.tokens_decoded += 1
        if token in params.stop_ids or (matcher is not None and token in matcher.ends):
            self._end(stream, "stop")
        elif len(stream.generated) >= params.max_tokens or stream.known >= self._context:
            self._end(stream, "length")
        elif stream.published is not None and stream.published.complete:
            self._end(stream, AGREES)
        return StepOutput(stream, token, logprob, stream.finished, top)

    @staticmethod
    def _compare(stream: Stream, logits: Tensor, choice: Choice, allowed: Allowed | None) -> bool:
        """Whether the choice is the published token."""
        published, params = stream.published, stream.params
        assert published is not None and params is not None
        wanted, margin = published.next_id, 0.0
        if choice.token != wanted:
            margin = margin_of(logits.numpy(), params, stream.known, wanted, stream.history, allowed)
        return published.check(choice, margin)
