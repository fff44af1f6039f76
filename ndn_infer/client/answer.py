"""One answer: read event by event, continued elsewhere where its stream is lost.

Owns: what is known of an answer so far, and its readings. Must not know: torch, tokenizers, how prompts come about
(conversation.py), how anything is computed.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import TracebackType
from typing import Final, Self

from ndn_infer import clock, ndn
from ndn_infer.client.answer_watch import AnswerWatch
from ndn_infer.client.asking_state import AskingState, Prompted
from ndn_infer.client.guarding import GuardedAnswer
from ndn_infer.client.passages import Cited
from ndn_infer.engine_class import WRONG_ENGINE
from ndn_infer.errors import BadRecord, CallError, NetworkError, PromptTooLong
from ndn_infer.evidence.receipts import KeptReceipt
from ndn_infer.guard.enforcement import PolicyStop
from ndn_infer.ndn.name import Name
from ndn_infer.records import GenerateRequest, KvSources, ModelRecord, Sampling, TokenEvent
from ndn_infer.records.codes import FAILED
from ndn_infer.records.receipt import Receipt
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.asking import Answered
from ndn_infer.transport.objects.ledger import RECOMPUTED, Ledger
from ndn_infer.transport.objects.stream_pull import OnProgress

log = logging.getLogger(__name__)

OVERLOOKED_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses of an answer that broke off, while only producers of another engine class are found, and one of its own class
may be there that was too busy to say so, or is behind a link that is cut. Each time it is looked for again."""


@dataclass(slots=True)
class Timing:
    """Seconds of one question, from its start; `asked_us` is that, in microseconds of the Unix epoch."""

    started: float = field(default_factory=clock.monotonic)
    asked_us: int = field(default_factory=clock.wall_us)
    first_token_s: float = 0.0
    total_s: float = 0.0

    def tokens_per_s(self, tokens: int) -> float:
        decode_s = self.total_s - self.first_token_s
        return (tokens - 1) / decode_s if tokens > 1 and decode_s > 0 else 0.0


@dataclass(slots=True)
class Move:
    """An answer that broke off after `tokens` and went on elsewhere: when its stream was given up, when somebody else
    answered, when the next token came; by clock.monotonic, 0 for what has not happened."""

    tokens: int
    lost_at: float
    answered_at: float = 0.0
    token_at: float = 0.0


@dataclass(slots=True, eq=False)
class Answer:
    """What is known of an answer so far: text and ids, why it ended, where KV came from. `async for event in answer`
    asks for it, and keeps it up to date; leaving the loop stops the reading, and with it the decoding when nobody else
    reads. Another loop goes on after the tokens that there are. Use it as a block (`async with`) where a reference to
    the loop's iterator may outlive it.

    When a stream is lost, its producer gone, the answer goes on where it broke off, at whoever answers then: randomness
    is by seed and position, and KV is computed as it was the first time, so the tokens are those it would have had
    (docs/engine.md). Reading raises PromptTooLong, and what Caller.stream raises.
    """

    conversation: AskingState
    model: ModelRecord
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    at: tuple[Name, ...] = ()
    """As in Caller.stream; so is `on_progress`."""
    salt: int = 0
    """As in Ask."""
    on_progress: OnProgress | None = None
    cited: tuple[Cited, ...] = ()
    prompted: Prompted | None = None
    """What its prompt was made of, where another conversation than its own made it."""
    on_over: Callable[[Answer], object] | None = None
    """Is told when nobody reads on."""
    context: str = ""
    """The name (URI) of a record of what was asked, which the producer is to name in its own."""
    timing: Timing = field(default_factory=Timing)
    text: str = ""
    ids: list[int] = field(default_factory=list)
    scored: int = 0
    """So many tokens of the prompt were told with their probabilities (Sampling.score_prompt), each once."""
    finish: str = ""
    failed: bool = False
    """Whether the newest reading of it ended with an error."""
    last: TokenEvent | None = None
    stream_name: str = ""
    streams: list[str] = field(default_factory=list)
    """All of which it was read, where it broke off and went on."""
    by: Name = b""
    """The identity whose key signed the newest stream; empty before the first event."""
    moves: list[Move] = field(default_factory=list)
    guarded: GuardedAnswer | None = None
    """Under which policy it is shown, if any."""
    _refused: set[str] = field(default_factory=set)
    """Engine classes that producers refused."""
    watch: AnswerWatch | None = field(init=False, default=None)
    _reading: weakref.ref[AsyncGenerator[TokenEvent]] | None = None

    @property
    def continued(self) -> int:
        """How often the answer broke off and went on elsewhere."""
        return len(self.moves)

    @property
    def stopped(self) -> PolicyStop | None:
        """Why a policy stopped it, if one did."""
        return None if self.guarded is None else self.guarded.stop

    @property
    def stored(self) -> bool:
        """Whether the answer was there, or in the making, before this was asked: its stream's version is that old."""
        opened_us = _version_of(self.stream_name)
        return opened_us is not None and opened_us < self.timing.asked_us

    def __aiter__(self) -> AsyncIterator[TokenEvent]:
        """Only the loop refers to it: when the loop is left, it is closed."""
        events = self._read()
        self._reading = weakref.ref(events)
        return events

    async def aclose(self) -> None:
        """Stop reading, if somebody still does."""
        events = self._reading() if self._reading is not None else None
        if events is not None:
            await events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await self.aclose()

    async def _read(self) -> AsyncGenerator[TokenEvent]:
        if self.finish:
            return
        if len(self.prompt_ids) >= self.model.context_tokens:
            raise PromptTooLong(
                f"the prompt has {len(self.prompt_ids)} tokens; {self.model.alias} takes {self.model.context_tokens} "
                "with the answer"
            )
        pauses: Iterator[float] = iter(())
        self.failed = False
        try:
            while True:
                known = len(self.ids) + self.scored
                try:
                    async with aclosing(self._stream()) as events:  # a reader that stops leaves no Interest behind
                        async for event in events:
                            yield event
                except CallError as error:
                    if known and self._may_be_overlooked(error) and (pause_s := next(pauses, 0.0)):
                        await asyncio.sleep(pause_s)
                        continue
                    self._ask_another_class(error)
                except NetworkError as error:
                    if len(self.ids) + self.scored == known or self.finish:
                        raise
                    log.warning(
                        "an answer broke off after %d tokens; continuing with another producer: %s",
                        len(self.ids),
                        error,
                    )
                    self.moves.append(Move(len(self.ids), clock.monotonic()))
                    pauses = iter(OVERLOOKED_S)
                else:
                    return
        except Exception:
            self.failed = True
            raise
        finally:
            self._left()

    def _left(self) -> None:
        """Nobody reads on."""
        if self.watch is not None and self.conversation.meters is not None:
            self.watch.left(self.finish, len(self.moves))
            self.conversation.names.look(self.conversation.meters, self.conversation.ledger.uses())
        if self.on_over is not None:
            self.on_over(self)

    def _may_be_overlooked(self, error: CallError) -> bool:
        """Whether this refusal of another class came as one of its own was not found that may be there."""
        engines = self.conversation.engines
        return error.code == WRONG_ENGINE and not self.at and engines.may_come(self.model.digest, self.by)

    def _ask_another_class(self, error: CallError) -> None:
        """Raises the error unless the next request is to name another engine class, which nobody has refused. An answer
        that has begun is continued in its class or not at all: another would give other tokens."""
        if self.ids or self.scored:
            raise error
        engines, model = self.conversation.engines, self.model.digest
        self._refused.add(engines.of(model))
        if (offered := engines.refused(model, error)) in self._refused:
            raise error
        log.info("asking for engine class %s: %s", offered, error)

    async def _stream(self) -> AsyncGenerator[TokenEvent]:
        """The events of one stream, after the tokens that there are."""
        conversation, prompt = self.conversation, self.prompt_ids
        before, holders = conversation.turn
        ask = Ask(
            ("model", self.model.digest), "generate", self._request(), conversation.domain,
            advice=holders if len(before) < len(prompt) and before == prompt[: len(before)] else (), at=self.at,
            evidence=conversation.evidence, salt=self.salt, context=self.context,
        )  # fmt: skip

        def read(hears: Callable[[Answered], None]) -> AsyncGenerator[tuple[TokenEvent, Answered]]:
            def on_answer(answered: Answered) -> None:
                self._answered()
                hears(answered)

            return conversation.caller.stream(ask, TokenEvent, on_progress=self.on_progress, on_answer=on_answer)

        events = read(lambda answered: None) if self.guarded is None else self.guarded.shown(read)
        scored = 0
        async with aclosing(events):
            async for event, answered in events:
                self._reads(answered)
                scored, told = scored + len(event.prompt), self.scored
                if event.prompt:
                    event = replace(event, prompt=event.prompt[max(0, len(event.prompt) - (scored - told)) :])
                self._take(event)
                if event.finish:
                    conversation.turn = (prompt, event.kv_holders)
                yield event

    def _request(self) -> GenerateRequest:
        made = tuple(self.ids if self.guarded is None else self.guarded.ids)
        score = self.sampling.score_prompt and not made
        left = replace(self.sampling, max_tokens=self.sampling.max_tokens - len(made), score_prompt=score)
        engine = self.conversation.engines.of(self.model.digest)
        return GenerateRequest(left, prompt=self.prompt_ids + made, engine=engine, answered=len(made))

    def _reads(self, answered: Answered) -> None:
        self.stream_name, self.by = answered.answer.result, answered.signed_by.identity
        if self.stream_name not in self.streams[-1:]:
            self.streams.append(self.stream_name)

    def _answered(self) -> None:
        if self.moves:
            self.moves[-1].answered_at = clock.monotonic()

    def _take(self, event: TokenEvent) -> None:
        now = clock.monotonic()
        elapsed = now - self.timing.started
        if event.ids and self.moves and not self.moves[-1].token_at:
            self.moves[-1].token_at = now
        if event.ids and not self.ids:
            self.timing.first_token_s = elapsed
        self.timing.total_s = elapsed
        self.scored += len(event.prompt)
        if self.scored > len(self.prompt_ids):
            raise BadRecord(f"probabilities of {self.scored} tokens of a prompt of {len(self.prompt_ids)}")
        if len(self.ids) + len(event.ids) > self.sampling.max_tokens:
            raise BadRecord(f"more tokens than the {self.sampling.max_tokens} that were asked for")
        if event.ids and self.watch is not None:
            self.watch.tokens(len(event.ids), now, elapsed)
        self.ids.extend(event.ids)
        self.text += event.text
        self.last = event
        if event.receipt is not None and self.conversation.receipts is not None:
            self.conversation.receipts.add(self._kept(event.receipt))
        if event.finish == "error":
            raise CallError(f"generation failed: {event.error}", code=event.code or FAILED)
        self.finish = event.finish or self.finish
        if event.finish and self.watch is not None:
            self.watch.ended(len(self.prompt_ids), event.kv, stored=self.stored)
        if event.finish and event.kv is not None and not self.stored:
            _enter_kv(self.conversation.ledger, event.kv, event.kv_names)

    def _kept(self, receipt: Receipt) -> KeptReceipt:
        model, domain, by = self.model, self.conversation.domain, ndn.to_uri(self.by)
        return KeptReceipt(
            self.stream_name, by, model.digest, model.alias, domain, clock.wall_us(), self.stored, receipt
        )


@lru_cache(maxsize=256)
def _version_of(stream_name: str) -> int | None:
    """The version in the URI of a stream; None without one. Asked for with each event."""
    for component in reversed(ndn.components(ndn.from_uri(stream_name)) if stream_name else ()):
        if ndn.component_type(component) == ndn.VERSION:
            return ndn.component_number(component, ndn.VERSION)
    return None


def _enter_kv(ledger: Ledger, kv: KvSources, names: Sequence[str]) -> None:
    """The decode producer's signed word on where KV came from."""
    examples = iter(names)  # which of them came from where is not said: no example for two sources
    rows = (
        ("Content Store of the decode node", kv.content_store),
        ("its producer", kv.named - kv.content_store),
        ("decode node's memory", kv.local),
        ("prefill, computed for this prompt", kv.prefilled),
        (RECOMPUTED, kv.recomputed),
    )
    for source, count in rows:
        if count:
            ledger.add("KV block", next(examples, ""), source, None, count=count)
            examples = iter(())
