"""Answers in OpenAI's form: whole documents, and the chunks of a stream.

Owns: the JSON of chat and text completions, usage and log probabilities. Pure. Must not know: HTTP, where events come
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer.records import KvSources, TokenEvent, TokenLogprobs

_KINDS: Final = {True: "chat.completion", False: "text_completion"}


@dataclass(frozen=True, slots=True)
class Head:
    """What stands in every document of one request. `alternatives`: as in ChoiceOptions."""

    id: str
    created: int
    model: str
    fingerprint: str
    chat: bool
    alternatives: int | None = None

    def document(self, choices: list[dict[str, Any]], *, chunk: bool = False) -> dict[str, Any]:
        kind = _KINDS[self.chat] + (".chunk" if chunk and self.chat else "")
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices,
            "system_fingerprint": self.fingerprint,
        }  # fmt: skip


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


def cached_tokens(prompt_tokens: int, kv: KvSources | None, *, stored: bool) -> int:
    """Tokens of a prompt that nobody computed for this request, by the decode producer's word on its blocks."""
    if stored:
        return prompt_tokens
    if kv is None:
        return 0
    found, blocks = kv.local + kv.named, kv.local + kv.named + kv.prefilled + kv.recomputed
    return max(0, prompt_tokens - kv.tail_tokens) * min(found, blocks) // blocks if blocks else 0


def usage(choices: Sequence[GrowingChoice], n: int) -> dict[str, Any]:
    """`n` choices in a row have one prompt, which counts once."""
    firsts = choices[::n]
    prompt, completion = sum(one.prompt_tokens for one in firsts), sum(choice.tokens for choice in choices)
    return {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(one.cached for one in firsts), "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip


# ---------------------------------------------------------------- whole answers


def whole(head: Head, choices: Sequence[GrowingChoice], used: dict[str, Any]) -> dict[str, Any]:
    make = _chat_choice if head.chat else _text_choice
    return {**head.document([make(head, choice) for choice in choices]), "usage": used}


def _chat_choice(head: Head, choice: GrowingChoice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None, "annotations": []}
    logprobs = logprobs_of(head, choice.logprobs, "")
    return {"index": choice.index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish}


def _text_choice(head: Head, choice: GrowingChoice) -> dict[str, Any]:
    logprobs = logprobs_of(head, choice.logprobs, "")
    return {"index": choice.index, "text": choice.text, "logprobs": logprobs, "finish_reason": choice.finish}


# ---------------------------------------------------------------- streams


def opening(head: Head, index: int, text: str = "") -> dict[str, Any] | None:
    """The first chunk of a choice; None where there is nothing to say before a token (`text`: an echoed prompt)."""
    if head.chat:
        return _chunk(head, index, {"role": "assistant", "content": "", "refusal": None}, None, "")
    return _chunk(head, index, text, None, "") if text else None


def growing(head: Head, index: int, event: TokenEvent, before: str) -> dict[str, Any] | None:
    """What an event adds; None for one without text. `before`: text of the choice before it."""
    logprobs = logprobs_of(head, event.logprobs, before)
    if not event.text and not event.logprobs:
        return None
    return _chunk(head, index, {"content": event.text} if head.chat else event.text, logprobs, "")


def closing(head: Head, index: int, finish: str) -> dict[str, Any]:
    return _chunk(head, index, {} if head.chat else "", None, finish)


def usage_chunk(head: Head, used: dict[str, Any]) -> dict[str, Any]:
    return {**head.document([], chunk=True), "usage": used}


def _chunk(head: Head, index: int, content: Any, logprobs: Any, finish: str) -> dict[str, Any]:
    key = "delta" if head.chat else "text"
    choice = {"index": index, key: content, "logprobs": logprobs, "finish_reason": finish or None}
    return head.document([choice], chunk=True)


# ---------------------------------------------------------------- log probabilities


def logprobs_of(head: Head, told: Sequence[TokenLogprobs], before: str) -> dict[str, Any] | None:
    """None when none were asked for."""
    if head.alternatives is None:
        return None
    if head.chat:
        return {"content": [_of_token(one, head.alternatives) for one in told], "refusal": None}
    return _legacy(told, head.alternatives, len(before))


def _of_token(told: TokenLogprobs, count: int) -> dict[str, Any]:
    likely = zip(told.top[:count], told.top_text, strict=False)
    top = [_entry(text, logprob) for (_, logprob), text in likely]
    return {**_entry(told.text, told.logprob), "top_logprobs": top}


def _entry(text: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _text(text), "logprob": logprob, "bytes": list(text)}


def _text(token: bytes) -> str:
    """A token may be part of a character; that shows as U+FFFD."""
    return token.decode("utf-8", "replace")


def _legacy(told: Sequence[TokenLogprobs], count: int, offset: int) -> dict[str, Any]:
    """The form of /v1/completions. Offsets count the characters of the tokens, as they stand in `tokens`."""
    tokens, offsets, top = [], [], []
    for one in told:
        tokens.append(_text(one.text))
        offsets.append(offset)
        offset += len(tokens[-1])
        likely = zip(one.top[:count], one.top_text, strict=False)
        top.append({_text(text): logprob for (_, logprob), text in likely})
    return {
        "tokens": tokens, "token_logprobs": [one.logprob for one in told], "top_logprobs": top if count else None,
        "text_offset": offsets,
    }  # fmt: skip
