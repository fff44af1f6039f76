"""What chat and text completions share: the frame of their documents, their chunks, usage and log probabilities.

Owns: the JSON that OpenAI has for both. Pure. Must not know: messages (chat.py), echoed prompts (text.py), HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ndn_infer.gateway.forms.form import DONE, Head, ServerEvent
from ndn_infer.gateway.growing import GrowingChoice, Used
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.gateway.sampling import ChoiceOptions
from ndn_infer.records import TokenLogprobs


class Completions:
    """The frame of one request's documents; `prefix` is that of its identifier, `chunk` the kind of its chunks."""

    prefix: str
    kind: str
    chunk: str

    def __init__(self, head: Head, asked: ChoiceOptions) -> None:
        self._head = head
        self._asked = asked

    def document(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        head = self._head
        return {
            "id": f"{self.prefix}-{head.key}", "object": kind, "created": head.created, "model": head.model,
            "choices": choices, "system_fingerprint": head.fingerprint,
        }  # fmt: skip

    def whole_of(self, choices: Sequence[GrowingChoice], documents: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.document(self.kind, documents), "usage": usage(Used.by(choices, self._asked.n))}

    def chunk_of(self, choice: dict[str, Any]) -> ServerEvent:
        """With usage asked for, every chunk says that it has none yet."""
        document = self.document(self.chunk, [choice])
        return ServerEvent({**document, "usage": None} if self._asked.usage else document)

    def closing(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        if self._asked.usage:
            used = usage(Used.by(choices, self._asked.n))
            yield ServerEvent({**self.document(self.chunk, []), "usage": used})

    def failing(self, refusal: Refusal) -> Iterable[ServerEvent]:
        return (ServerEvent(refusal.document),)

    def keep_alive(self) -> None:
        return None

    def ending(self) -> Iterable[ServerEvent]:
        return (DONE,)


def usage(used: Used) -> dict[str, Any]:
    return {
        "prompt_tokens": used.prompt, "completion_tokens": used.completion,
        "total_tokens": used.prompt + used.completion,
        "prompt_tokens_details": {"cached_tokens": used.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip


# ---------------------------------------------------------------- log probabilities


def chat_logprobs(told: Sequence[TokenLogprobs], count: int | None) -> dict[str, Any] | None:
    """`count` likely tokens for each; None when no log probabilities were asked for."""
    return None if count is None else {"content": [_of_token(one, count) for one in told], "refusal": None}


def _of_token(told: TokenLogprobs, count: int) -> dict[str, Any]:
    likely = zip(told.top[:count], told.top_text, strict=False)
    top = [_entry(text, logprob) for (_, logprob), text in likely]
    return {**_entry(told.text, told.logprob), "top_logprobs": top}


def _entry(text: bytes, logprob: float) -> dict[str, Any]:
    return {"token": token_text(text), "logprob": logprob, "bytes": list(text)}


def token_text(token: bytes) -> str:
    """A token may be part of a character; that shows as U+FFFD."""
    return token.decode("utf-8", "replace")


def text_logprobs(
    told: Sequence[TokenLogprobs], count: int | None, offset: int, *, begins: bool = False
) -> dict[str, Any] | None:
    """The form of /v1/completions. Offsets count the characters of the tokens, as they stand in `tokens`; the first one
    is at `offset`. `begins`: the first token is that of a prompt, which has no probability."""
    if count is None:
        return None
    tokens, offsets = [], []
    for one in told:
        tokens.append(token_text(one.text))
        offsets.append(offset)
        offset += len(tokens[-1])
    logprobs: list[float | None] = [one.logprob for one in told]
    top: list[dict[str, float] | None] = [_likely(one, count) for one in told]
    if begins:
        logprobs[:1] = [None]
        top[:1] = [None]
    return {
        "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top if count else None, "text_offset": offsets
    }  # fmt: skip


def _likely(told: TokenLogprobs, count: int) -> dict[str, float]:
    """The most likely tokens and the one that is there, as OpenAI has it; of two with the same text, the likelier."""
    found: dict[str, float] = {}
    for (_, logprob), text in zip(told.top[:count], told.top_text, strict=False):
        found.setdefault(token_text(text), logprob)
    found.setdefault(token_text(told.text), told.logprob)
    return found
