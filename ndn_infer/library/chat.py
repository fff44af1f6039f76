"""Conversations of the library: questions that follow each other, and their answers as text that arrives.

Owns: the messages of a conversation, what belongs to its newest answer, results of tools. Must not know: which network,
files, terminals.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self, Unpack

from ndn_infer.client import Answer, Cited, Client, Conversation, Timing
from ndn_infer.client.answer_parts import AnswerParts
from ndn_infer.client.tool_use import ToolUse
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.hermes import Piece, TextPiece
from ndn_infer.library.overflow import PromptRoom, prompt_of
from ndn_infer.library.parameters import HowToAsk, checked, sampling_of
from ndn_infer.library.tools import MadeCall, ToolLike, made_calls, use_of
from ndn_infer.records import Message, ModelRecord, Sampling
from ndn_infer.records.chat import ChatStep
from ndn_infer.records.tools import ToolCall, json_text
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.objects.ledger import Ledger, Use
from ndn_infer.transport.objects.stream_pull import OnProgress

ONE_AT_A_TIME_S: Final = 5.0
"""How long a question waits until the answer before it, whose loop was left, is closed."""


class Asked(Protocol):
    """A question on its way."""

    async def begin(self) -> Answer:
        """Its answer, the same one each time."""
        ...

    def ended(self) -> None:
        """Nobody reads the answer any more, or it failed to begin."""
        ...

    @property
    def calls(self) -> tuple[MadeCall, ...]:
        """The calls of tools that it has asked for so far."""
        ...


@dataclass(slots=True, eq=False)
class ChatReply:
    """An answer: `async for piece in reply` gives its text as it arrives, `await reply.read()` all of it. It is asked
    for when it is first read. Leaving the loop ends it, and with it the decoding when nobody else reads; reading again
    goes on after the text that there is. Reading raises what Conversation.ask and Answer raise.

    Where tools were given, `async for piece in reply.pieces()` gives calls of them too as they arrive, and `calls` has
    those that are complete. What a model writes as a call is no part of the text."""

    question: Asked
    on_progress: OnProgress | None = None
    said: AnswerParts = field(default_factory=AnswerParts)
    answer: Answer | None = None
    """What the client knows of it; None before it is first read."""
    _reading: weakref.ref[AsyncGenerator[str] | AsyncGenerator[Piece]] | None = None

    @property
    def text(self) -> str:
        return self.said.content

    @property
    def calls(self) -> tuple[MadeCall, ...]:
        """The calls of tools that it asks for."""
        return self.question.calls

    @property
    def finish(self) -> str:
        """Why it ended: "stop" or "length"; "" while it has not."""
        return self.answer.finish if self.answer is not None else ""

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(self.answer.ids) if self.answer is not None else ()

    @property
    def prompt_tokens(self) -> int:
        return len(self.answer.prompt_ids) if self.answer is not None else 0

    @property
    def stored(self) -> bool:
        """Whether it was computed for an earlier question."""
        return self.answer is not None and self.answer.stored

    @property
    def timing(self) -> Timing:
        return self.answer.timing if self.answer is not None else Timing()

    @property
    def cited(self) -> tuple[Cited, ...]:
        """The passages in its prompt."""
        return self.answer.cited if self.answer is not None else ()

    @property
    def names(self) -> tuple[Use, ...]:
        """What it rests on: kinds of names with counts, sources, an example and the keys that signed them."""
        return tuple(self.answer.conversation.ledger.uses()) if self.answer is not None else ()

    @property
    def signers(self) -> tuple[str, ...]:
        """The keys whose signatures were verified."""
        return self.answer.conversation.ledger.signers() if self.answer is not None else ()

    def __aiter__(self) -> AsyncIterator[str]:
        """Only the loop refers to it: when the loop is left, it is closed."""
        pieces = self._texts()
        self._reading = weakref.ref(pieces)
        return pieces

    def pieces(self) -> AsyncIterator[Piece]:
        """TextPiece, CallBegun, ArgumentsPiece and CallEnded (ndn_infer.hermes) as they arrive."""
        pieces = self._read()
        self._reading = weakref.ref(pieces)
        return pieces

    async def read(self) -> str:
        """The whole text."""
        async for _ in self:
            pass
        return self.text

    async def aclose(self) -> None:
        """Stop reading, if somebody still does."""
        pieces = self._reading() if self._reading is not None else None
        if pieces is not None:
            await pieces.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await self.aclose()

    async def _texts(self) -> AsyncGenerator[str]:
        async with aclosing(self._read()) as pieces:
            async for piece in pieces:
                if isinstance(piece, TextPiece):
                    yield piece.text

    async def _read(self) -> AsyncGenerator[Piece]:
        if self.finish:
            return
        try:
            answer = self.answer = await self.question.begin()
            answer.on_progress = self.on_progress
            if answer.finish:  # no model was asked (documents that hold no answer)
                for piece in self.said.take(answer.text, last=True):
                    yield piece
                return
            async with answer:
                async for event in answer:
                    for piece in self.said.take(event.text, last=bool(event.finish)):
                        yield piece
        finally:
            self.question.ended()


@dataclass(frozen=True, slots=True)
class ChatParts:
    """What a conversation of the library is made of. `model` is a name in the network, `domain` the label of a tenant
    domain's newest epoch."""

    client: Client
    config: Config
    model: str
    domain: str = PUBLIC.label


@dataclass(slots=True, eq=False)
class Chat:
    """Questions that follow each other; the messages so far are the context of the next one. One question at a time;
    a network takes as many conversations at once as there are."""

    parts: ChatParts
    messages: list[Message] = field(default_factory=list)
    tools: Sequence[ToolLike] = ()
    """Those given last: they stay until others are."""
    model: str = ""
    """Alias or digest of the model that is asked."""
    reply: ChatReply | None = None
    """The newest answer."""
    ledgers: list[Ledger] = field(default_factory=list)
    """One of each answer."""
    turn: tuple[tuple[int, ...], tuple[str, ...]] = ((), ())
    """As Conversation.turn."""
    steps: list[ChatStep] = field(default_factory=list)
    """What was done, each time that it had outgrown the model's context (ask.overflow)."""
    source: str = ""
    """The saved state that it goes on from (versioned name), "" for a new one."""
    holder: ChatTurn | None = None
    """Whose answer is being read."""
    free: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.model = self.model or self.parts.model

    @property
    def domain(self) -> str:
        """The label of the tenant domain in which it asks, or "public"."""
        return self.parts.domain

    @property
    def names(self) -> tuple[Use, ...]:
        """What all its answers rest on; that of one: ChatReply.names."""
        if not self.ledgers:
            return ()
        whole = Ledger(self.ledgers[0].net)
        for ledger in self.ledgers:
            whole.include(ledger)
        return tuple(whole.uses())

    def ask(self, text: str, *, on_progress: OnProgress | None = None, **how: Unpack[HowToAsk]) -> ChatReply:
        """The answer to `text`, after all that was said. When it ends, question and answer are part of the messages; of
        one whose loop was left, what had arrived. Raises UsageError for a parameter out of its range."""
        return self._ask((Message("user", text),), on_progress, how)

    def returned(
        self, results: Mapping[str, object], *, on_progress: OnProgress | None = None, **how: Unpack[HowToAsk]
    ) -> ChatReply:  # fmt: skip
        """The answer to the results of the calls that the answer before asked for, each under its call's `id`: a text,
        or what JSON has. Raises UsageError where one is missing, or is of no call; BadRecord for no JSON."""
        asked = self.messages[-1].tool_calls if self.messages else ()
        if not asked or {call.id for call in asked} != results.keys():
            wanted = ", ".join(call.id for call in asked) or "none"
            raise UsageError(f"results are wanted of the calls {wanted}, not of {', '.join(results) or 'none'}")
        told = {name: one if isinstance(one, str) else json_text(one) for name, one in results.items()}
        messages = tuple(Message("tool", told[call.id], tool_call_id=call.id) for call in asked)
        return self._ask(messages, on_progress, how)

    def _ask(self, messages: tuple[Message, ...], on_progress: OnProgress | None, how: HowToAsk) -> ChatReply:
        self.tools = how.pop("tools", self.tools)
        choice, parallel = how.pop("tool_choice", "auto"), how.pop("parallel_tool_calls", True)
        use = use_of(self.tools, choice, parallel=parallel)
        sampling = checked(use.held(sampling_of(self.parts.config, how)))
        said = AnswerParts(use.allowed)
        self.reply = ChatReply(ChatTurn(self, messages, sampling, use, said), on_progress, said)
        return self.reply

    def reset(self) -> None:
        """Forget what was said, but for the system prompt."""
        self.messages = [message for message in self.messages if message.role == "system"]
        self.reply, self.turn, self.source = None, ((), ()), ""
        self.ledgers.clear()
        self.steps.clear()


@dataclass(slots=True, eq=False)
class ChatTurn:
    """One question of a conversation: what is said in it, and what its answer says."""

    chat: Chat
    messages: tuple[Message, ...]
    sampling: Sampling
    tools: ToolUse
    said: AnswerParts
    answer: Answer | None = None
    context: list[Message] = field(default_factory=list)
    """What was said before it."""
    step: ChatStep | None = None
    """What was done for this question, as the conversation had outgrown the model's context."""

    async def begin(self) -> Answer:
        """Raises UsageError where another answer of this conversation is still being read."""
        chat = self.chat
        try:
            async with asyncio.timeout(ONE_AT_A_TIME_S):  # one whose loop was left is being closed
                while chat.holder is not None:
                    await chat.free.wait()
        except TimeoutError:
            raise UsageError(
                "this conversation is still reading an answer", hint="read it to its end, or open another one"
            ) from None
        chat.holder = self
        chat.free.clear()
        if self.answer is None:
            self.answer = await self._asked()
            chat.ledgers.append(self.answer.conversation.ledger)
        return self.answer

    async def _asked(self) -> Answer:
        chat, timing = self.chat, Timing()
        conversation = chat.parts.client.conversation(chat.domain)
        conversation.turn = chat.turn
        self.context = list(chat.messages)
        model = await conversation.resolve_model(chat.model)
        prompt = await self._prompt(conversation, model)
        answer = conversation.generate(model, prompt, self.sampling)
        answer.timing = timing
        return answer

    async def _prompt(self, conversation: Conversation, model: ModelRecord) -> tuple[int, ...]:
        chat, last = self.chat, self.chat.steps[-1] if self.chat.steps else None
        room = max(1, min(self.sampling.max_tokens, model.context_tokens // 4))
        wanted = PromptRoom(chat.parts.config.ask.overflow, room, self.tools.shown)
        prompt, step = await prompt_of(conversation, model, [*self.context, *self.messages], last, wanted)
        if step is not None and step is not last:
            self.step = step
            chat.steps.append(step)
        return prompt

    def ended(self) -> None:
        chat = self.chat
        if chat.holder is not self:
            return
        chat.holder = None
        chat.free.set()
        if self.answer is not None and (self.said.content or self.calls):
            chat.turn = self.answer.conversation.turn
            calls = tuple(ToolCall(call.name, json_text(call.arguments), call.id) for call in self.calls)
            chat.messages = [*self.context, *self.messages, Message("assistant", self.said.content, calls)]

    @property
    def calls(self) -> tuple[MadeCall, ...]:
        return made_calls(self.said.calls, len(self.context))
