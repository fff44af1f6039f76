"""What every way to generate has in common: which requests are taken, and how they ask for sampling.

Owns: checking a GenerateRequest against a model, the sampling parameters of a request and the state of its text. Must
not know: KV, networks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from ndn_infer.engine.answer_text import StopMatcher, StreamDecoder, resume
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.engine_class import WRONG_ENGINE, EngineClass
from ndn_infer.errors import CallError, PromptError
from ndn_infer.records import GenerateRequest
from ndn_infer.records.sampling import Sampling


class Limits(Protocol):
    """What of a model's config matters here."""

    @property
    def context_length(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...


def check_request(request: GenerateRequest, limits: Limits, engine: EngineClass) -> None:
    """Raises PromptError, or CallError for a request that names another engine class than this producer's `engine`."""
    check_engine(request.engine, engine)
    if not request.prompt:
        raise PromptError("the prompt is empty")
    if len(request.prompt) + 1 > limits.context_length:
        raise PromptError(f"the prompt has {len(request.prompt)} tokens, this model takes {limits.context_length}")
    if max(request.prompt) >= limits.vocab_size:
        raise PromptError("the prompt has token ids outside the vocabulary")
    if request.answered >= len(request.prompt):
        raise PromptError(f"{request.answered} of {len(request.prompt)} tokens cannot be an answer")
    if request.answered and request.sampling.score_prompt:
        raise PromptError("an answer that goes on has no prompt to be scored: that is told before its first token")


def check_engine(asked: str, engine: EngineClass) -> None:
    """Raises CallError when a request names another engine class than `engine`."""
    if asked != str(engine):
        raise CallError(
            f"this producer computes as engine class {engine}, not {asked or 'an unnamed one'}", code=WRONG_ENGINE,
            offered=str(engine),
        )  # fmt: skip


async def text_of(request: GenerateRequest, tokenizer: ChatTokenizer) -> tuple[StreamDecoder, StopMatcher]:
    """What turns the answer's tokens into text, in the state in which an answer broke off: bounded work, and not in the
    event loop."""
    answered, stops = request.prompt[len(request.prompt) - request.answered :], request.sampling.stop
    if not answered:
        return StreamDecoder(tokenizer), StopMatcher(stops)
    return await asyncio.to_thread(resume, tokenizer, stops, answered)


def sampling_params(request: GenerateRequest, limits: Limits, eos_ids: Iterable[int]) -> Sampling:
    """What the engine samples by: within the model's context, ended by its end tokens. Raises UsageError where the bias
    names a token that the model does not have. An answer of no tokens computes the prompt, which one token follows
    from: AnswerStream does not tell it."""
    sampling = request.sampling
    sampling.check(limits.vocab_size)
    most = max(1, min(sampling.max_tokens, limits.context_length - len(request.prompt)))
    ends = () if sampling.ignore_eos else tuple(eos_ids)
    return replace(sampling, max_tokens=most, stop_ids=(*sampling.stop_ids, *ends))
