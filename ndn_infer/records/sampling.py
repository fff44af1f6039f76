"""How the next token is chosen: one class, for requests, the engine and the command line.

Owns: the parameters of sampling, their ranges and what each does. Must not know: how a token is drawn
(engine/sampler.py), models, flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from ndn_infer.errors import BadRecord, UsageError
from ndn_infer.records.bounds import AtMost, Between, TokenCount, TokenId
from ndn_infer.records.forms import IntForm, RecordForm, Request
from ndn_infer.records.grammar import Grammar

MAX_STOPS: Final = 16
MAX_STOP_CHARACTERS: Final = 256
MAX_LOGIT_BIAS: Final = 1024
MAX_LOGPROBS: Final = 20
"""Alternatives told for each token, as in OpenAI's chat API."""


@dataclass(frozen=True, slots=True)
class TokenBias(Request):
    """What is added to the logit of one token."""

    id: TokenId
    bias: Annotated[float, Between(-100, 100)]


@dataclass(frozen=True, slots=True)
class Sampling(Request):
    """Built with any values, as every record; `check` and the encoding refuse those out of range.

    Every field is part of a request's digest, `logprobs` too: it changes the answer's bytes. The choice for a position
    depends on the seed and the position, so a continuation anywhere gives the same tokens.
    """

    max_tokens: TokenCount = 256
    """New tokens at most. 0 has the prompt computed, and its KV published, and nothing after it."""
    temperature: Annotated[float, Between(0, 100)] = 0.0
    """0: always the most likely token (after bias and penalties), and the filters and the seed have no effect."""
    top_p: Annotated[float, Between(0, 1)] = 1.0
    """Only the most likely tokens that together have this probability; 1 and 0: all."""
    top_k: Annotated[int, Between(-1, (1 << 32) - 1)] = 0
    """Only the k most likely tokens; 0 and -1: all."""
    seed: Annotated[int, Between(0, (1 << 64) - 1)] = 0
    stop: Annotated[tuple[Annotated[str, AtMost(MAX_STOP_CHARACTERS, 1)], ...], AtMost(MAX_STOPS)] = ()
    """The answer ends before the first of these texts."""
    ignore_eos: bool = False
    """The model's own end tokens end nothing."""
    min_p: Annotated[float, Between(0, 1)] = 0.0
    """Only tokens at least this likely relative to the most likely one, after temperature; 0: all."""
    repetition_penalty: Annotated[float, Between(0.01, 100)] = 1.0
    """Logits of tokens in prompt and answer so far are divided by it when positive, else multiplied; 1: off. (Keskar et
    al., "CTRL", 2019, as transformers has it.)"""
    frequency_penalty: Annotated[float, Between(-2, 2)] = 0.0
    """Subtracted from a logit for every time the answer so far has the token; 0: off."""
    presence_penalty: Annotated[float, Between(-2, 2)] = 0.0
    """Subtracted from a logit when the answer so far has the token at all; 0: off."""
    logit_bias: Annotated[tuple[TokenBias, ...], AtMost(MAX_LOGIT_BIAS)] = ()
    """In rising order of ids, no token twice: equal requests have equal names."""
    logprobs: Annotated[int, Between(0, MAX_LOGPROBS)] = 0
    """How many of the most likely tokens are told with their probabilities."""
    stop_ids: Annotated[tuple[TokenId, ...], AtMost(256)] = ()
    """Tokens that end the answer, which has them as its last; besides the model's own."""
    score_prompt: bool = False
    """The probabilities of the prompt's own tokens are told too, before the first new token, each with `logprobs` of
    the most likely ones. Such a prompt is computed wholly: KV that is there has no logits."""
    grammar: Grammar | None = None
    """What the answer must be: only tokens that go on with it are chosen from, and the model's end tokens only where it
    may end (`ignore_eos` changes nothing about that)."""

    @property
    def needs_history(self) -> bool:
        """Whether choices depend on the tokens so far."""
        return self.repetition_penalty != 1.0 or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0

    def refused(self) -> tuple[str, str] | None:
        """(field, what it must be) of the first value out of its range."""
        for name, form in RecordForm.of(Sampling).forms.items():
            try:
                form.write(getattr(self, name))
            except BadRecord:
                return name, form.says
        ids = [one.id for one in self.logit_bias]
        return None if sorted(set(ids)) == ids else ("logit_bias", "in rising order of ids, each once")

    def check(self, vocabulary: int) -> None:
        """Raises UsageError where a value is out of its range, or a biased token not one of `vocabulary`."""
        if refused := self.refused():
            raise UsageError(f"{refused[0]} must be {refused[1]}")
        if self.grammar is not None:
            self.grammar.check()
        if self.logit_bias and (last := self.logit_bias[-1].id) >= vocabulary:
            raise UsageError(f"logit_bias names token {last}; ids of this model are 0 to {vocabulary - 1}")


def words_of(name: str) -> str:
    """The range of a parameter in words."""
    return RecordForm.of(Sampling).forms[name].says


def range_of(name: str) -> tuple[float, float]:
    """Least and most of a parameter that is a number."""
    form = RecordForm.of(Sampling).forms[name]
    assert isinstance(form, IntForm)
    return form.bound.low, form.bound.high
