"""Answers as they grow, and what they took: neutral, whatever the form in which they are told.

Owns: text, tokens, log probabilities and the count of cached tokens of each choice. Pure. Must not know: HTTP, the form
of a document (forms/), where events come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ndn_infer.hermes import Piece, TextPiece
from ndn_infer.records import KvSources, TokenEvent, TokenLogprobs


@dataclass(slots=True)
class GrowingChoice:
    """One answer as it grows. `cached`: tokens of its prompt whose KV was there by name or in memory, or all of them
    when the answer itself was."""

    index: int
    prompt_tokens: int
    text: str = ""
    tokens: int = 0
    finish: str = ""
    cached: int = 0
    logprobs: list[TokenLogprobs] = field(default_factory=list)

    def take(self, event: TokenEvent, *, stored: bool) -> None:
        self.text += event.text
        self.tokens += len(event.ids)
        self.finish = event.finish or self.finish
        self.logprobs += event.logprobs
        if event.finish:
            self.cached = cached_tokens(self.prompt_tokens, event.kv, stored=stored)

    def pieces(self) -> Iterator[Piece]:
        """All of it again, for forms that write a whole answer as they write one that grows."""
        if self.text:
            yield TextPiece(self.text)


@dataclass(frozen=True, slots=True)
class ChoiceEvent:
    """An event of a choice, which has taken it already; `before` is the text before it."""

    choice: GrowingChoice
    event: TokenEvent
    before: str

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return (TextPiece(self.event.text),) if self.event.text else ()


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


def cached_tokens(prompt_tokens: int, kv: KvSources | None, *, stored: bool) -> int:
    """Tokens of a prompt that nobody computed for this request, by the decode producer's word on its blocks."""
    if stored:
        return prompt_tokens
    if kv is None:
        return 0
    found, blocks = kv.local + kv.named, kv.local + kv.named + kv.prefilled + kv.recomputed
    return max(0, prompt_tokens - kv.tail_tokens) * min(found, blocks) // blocks if blocks else 0
