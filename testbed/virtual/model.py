"""A model without floats: its tokens, its text, and the time that its work takes.

Owns: which token follows which, words for token ids, how long prompts and tokens take and how many are computed at
once, how many bytes of KV a block has. Must not know: calls, streams, names.

The next token is a hash of all tokens before it and, when sampled, of the seed; so any producer continues any answer
with the same tokens, as the real engine does, and a wrong, lost or doubled token changes all that follow.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ndn_infer import clock
from ndn_infer.functions.capacity import CallTimes, Capacity, Occupied, tokens_a_second
from ndn_infer.kv.plan import Estimates
from ndn_infer.records import ModelRecord, Sampling
from ndn_infer.testbed.reading import sampling_of
from ndn_infer.testbed.world import Prompt
from ndn_infer.wire.pace import Pace

VOCABULARY: Final = 32_000
EOS: Final = 2
FIRST_WORD: Final = 256
"""Ids below are of no word."""
CONTEXT: Final = 8192
EOS_ONE_IN: Final = 64
TEMPLATE: Final = " ".join(f"<|template-{number}|>" for number in range(26))
TEMPLATE_END: Final = " ".join(f"<|template-end-{number}|>" for number in range(5))
MODEL: Final = hashlib.sha256(b"ndn-infer: the model of virtual networks").hexdigest()


def model_record(alias: str) -> ModelRecord:
    return ModelRecord(alias, MODEL, "causal-lm", "hash", CONTEXT, VOCABULARY, layers=30, kv_heads=3, head_dim=64)


# ---------------------------------------------------------------- tokens


class Continuation:
    """Tokens after `tokens`, one after the other."""

    def __init__(self, tokens: Sequence[int], sampling: Sampling) -> None:
        self._sampling = sampling
        self._state = hashlib.sha256()
        self._salt = struct.pack("<q", sampling.seed) if sampling.temperature > 0 else b""
        for token in tokens:
            self.take(token)

    def take(self, token: int) -> None:
        self._state.update(struct.pack("<I", token))

    def next(self) -> tuple[int, float]:
        """The next token and its log probability. The end of a text comes by chance, unless it is to be ignored."""
        state = self._state.copy()
        state.update(self._salt)
        drawn = int.from_bytes(state.digest()[:8], "big")
        if drawn % EOS_ONE_IN == 0 and not self._sampling.ignore_eos:
            token = EOS
        else:
            token = FIRST_WORD + drawn % (VOCABULARY - FIRST_WORD)
        self.take(token)
        return token, -(drawn % 997) / 997


def expected(prompt: Sequence[int], sampling: Sampling) -> list[int]:
    """The whole answer to a prompt, whoever gives it."""
    model, ids = Continuation(prompt, sampling), list[int]()
    while len(ids) < sampling.max_tokens:
        ids.append(model.next()[0])
        if ids[-1] == EOS:
            break
    return ids


class WordTokenizer:
    """A token is a word. Has the shape of engine.tokenizer.ChatTokenizer, as far as answers need it."""

    eos_ids = (EOS,)
    vocab_size = VOCABULARY

    def encode(self, text: str) -> list[int]:
        """Equal words have equal ids; the other way round a text does not come back."""
        return [FIRST_WORD + _hash(word.encode()) % (VOCABULARY - FIRST_WORD) for word in re.findall(r"\S+", text)]

    def template(self, messages: Iterable[str]) -> str:
        """A conversation as the model takes it: some 30 tokens around what is said."""
        return " ".join((TEMPLATE, *messages, TEMPLATE_END))

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        return "".join(f" w{token}" for token in ids if self.shows(token, skip_special))

    def shows(self, token: int, skip_special: bool = True) -> bool:
        return token >= FIRST_WORD

    def token_bytes(self, token: int) -> bytes:
        return self.decode((token,)).encode()


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


# ---------------------------------------------------------------- time


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one engine: tokens a second of prompts (one prompt at a time) and of each answer (up to `seats` at once; more
    wait, at most `queue`). `block_bytes` are the bytes of one KV block."""

    prefill_tokens_s: float = 2000.0
    decode_tokens_s: float = 40.0
    seats: int = 8
    queue: int = 64
    block_bytes: int = 32_000


class VirtualEngine:
    """What one process computes with. Work takes virtual time, and nothing else."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self.held: set[bytes] = set()
        """Chain values of blocks whose KV is in memory."""
        self.estimates = Estimates()
        self._prompts = asyncio.Lock()
        self.seats = asyncio.Semaphore(speed.seats)
        self.waiting = 0
        self.times = CallTimes()
        self._prefill, self._decode, self._fetch = Pace(0.0), Pace(0.0), Pace(0.0)
        self._worked_s = 0.0
        self._occupied = Occupied()

    async def prefill(self, tokens: int) -> None:
        self.waiting += 1
        try:
            async with self._prompts:
                await self._work(self._prefill, tokens, tokens / self.speed.prefill_tokens_s)
        finally:
            self.waiting -= 1

    async def step(self) -> None:
        """One token of one answer that has a seat."""
        await self._work(self._decode, 1, 1 / self.speed.decode_tokens_s)

    async def _work(self, pace: Pace, tokens: int, seconds: float) -> None:
        began = clock.monotonic()
        await asyncio.sleep(seconds)
        pace.measured(tokens, clock.monotonic() - began)
        self._worked_s += clock.monotonic() - began

    def fetched(self, tokens: int, seconds: float) -> None:
        """The KV of so many tokens came by name."""
        self._fetch.measured(tokens, seconds)

    def capacity(self, codec: str, block_tokens: int, running: int) -> Capacity:
        """What it could take on, by what it measured, while `running` answers have a seat."""
        return Capacity(
            codec=codec,
            block_tokens=block_tokens,
            context=CONTEXT,
            places=self.speed.seats,
            free=max(self.speed.seats - running, 0),
            call_s=self.times.whole.unit_s,
            prompt_s=self.times.first_token.unit_s,
            prefill_tps=tokens_a_second(self._prefill.unit_s),
            decode_tps=tokens_a_second(self._decode.unit_s),
            fetch_tps=tokens_a_second(self._fetch.unit_s),
            load=self._occupied.look(self._worked_s / self.speed.seats, clock.monotonic()),
            held=lambda: self.held,
        )


def block_content(value: bytes, size: int) -> bytes:
    """The KV block of a chain value: bytes that only this value has."""
    return hashlib.shake_128(value).digest(size)


def right_answer(what: Prompt) -> tuple[int, ...]:
    """The tokens of the answer to a scenario's question, whoever gives it."""
    tokenizer = WordTokenizer()
    prompt = tokenizer.encode(tokenizer.template([*([what.system] if what.system else []), what.prompt]))
    return tuple(expected(prompt, sampling_of(what)))
