"""Answers as they grow, and what they took: neutral, whatever the form in which they are told.

Owns: text, calls, tokens, log probabilities and the count of cached tokens of each choice. Pure. Must not know: HTTP,
the form of a document (forms/), where events come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ndn_infer.client.answer_parts import AnswerParts, SaidCall
from ndn_infer.client.answer_watch import cached_tokens
from ndn_infer.hermes import Piece
from ndn_infer.records import TokenEvent, TokenLogprobs


@dataclass(slots=True)
class GrowingChoice:
    """One answer as it grows: `text` is all that the model wrote, `content` what is no call of a tool. `cached`: tokens
    of its prompt whose KV was there by name or in memory, or all of them when the answer itself was."""

    index: int
    prompt_tokens: int
    said: AnswerParts = field(default_factory=AnswerParts)
    text: str = ""
    tokens: int = 0
    finish: str = ""
    stopped_by: str = ""
    """The stop string that ended it."""
    cached: int = 0
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt: list[TokenLogprobs] = field(default_factory=list)
    """Of the prompt's tokens, where they were asked for; that of the first one says nothing."""

    @property
    def content(self) -> str:
        return self.said.content

    @property
    def calls(self) -> Sequence[SaidCall]:
        return self.said.calls

    @property
    def called(self) -> bool:
        """Whether it ended with calls, so that their results are what is wanted next."""
        return self.finish == "stop" and self.said.called

    def take(self, event: TokenEvent, *, stored: bool) -> tuple[Piece, ...]:
        """What the event adds to content and calls."""
        self.text += event.text
        self.tokens += len(event.ids)
        self.finish = event.finish or self.finish
        self.stopped_by = event.stopped_by or self.stopped_by
        self.logprobs += event.logprobs
        self.prompt += event.prompt
        if event.finish:
            self.cached = cached_tokens(self.prompt_tokens, event.kv, stored=stored)
        return self.said.take(event.text, last=bool(event.finish))

    def pieces(self) -> Iterator[Piece]:
        """All of it again, for forms that write a whole answer as they write one that grows."""
        return self.said.pieces()


@dataclass(frozen=True, slots=True)
class ChoiceEvent:
    """An event of a choice, which has taken it already; `before` is the text before it, `pieces` are what it adds,
    `tokens` how many there are with it. `known`: the client has it from a stream that broke off."""

    choice: GrowingChoice
    event: TokenEvent
    before: str
    pieces: tuple[Piece, ...] = ()
    tokens: int = 0
    known: bool = False


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens of one request; `cached` are those of the prompt that nobody computed for it."""

    prompt: int
    completion: int
    cached: int

    @classmethod
    def by(cls, choices: Sequence[GrowingChoice], n: int = 1) -> Used:
        """`n` choices in a row have one prompt, which counts once."""
        firsts = choices[::n]
        return cls(
            sum(one.prompt_tokens for one in firsts), sum(choice.tokens for choice in choices),
            sum(one.cached for one in firsts),
        )  # fmt: skip
