"""Conversations of the library: questions that follow each other, and their answers as text that arrives.

Owns: the messages of a conversation, what belongs to its newest answer. Must not know: which network, files, terminals.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self, Unpack

from ndn_infer.client import Answer, Cited, Client, Timing
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.library.parameters import HowToAnswer, checked, sampling_of
from ndn_infer.records import Message, Sampling
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


@dataclass(slots=True, eq=False)
class ChatReply:
    """An answer: `async for piece in reply` gives its text as it arrives, `await reply.read()` all of it. It is asked
    for when it is first read. Leaving the loop ends it, and with it the decoding when nobody else reads; reading again
    goes on after the text that there is. Reading raises what Conversation.ask and Answer raise."""

    question: Asked
    on_progress: OnProgress | None = None
    answer: Answer | None = None
    """What the client knows of it; None before it is first read."""
    _reading: weakref.ref[AsyncGenerator[str]] | None = None

    @property
    def text(self) -> str:
        return self.answer.text if self.answer is not None else ""

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

    async def _read(self) -> AsyncGenerator[str]:
        if self.finish:
            return
        try:
            answer = self.answer = await self.question.begin()
            answer.on_progress = self.on_progress
            if answer.finish:  # no model was asked (documents that hold no answer)
                yield answer.text
                return
            async with answer:
                async for event in answer:
                    if event.text:
                        yield event.text
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
    model: str = ""
    """Alias or digest of the model that is asked."""
    reply: ChatReply | None = None
    """The newest answer."""
    ledgers: list[Ledger] = field(default_factory=list)
    """One of each answer."""
    turn: tuple[tuple[int, ...], tuple[str, ...]] = ((), ())
    """As Conversation.turn."""
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

    def ask(self, text: str, *, on_progress: OnProgress | None = None, **how: Unpack[HowToAnswer]) -> ChatReply:
        """The answer to `text`, after all that was said. When it ends, question and answer are part of the messages; of
        one whose loop was left, what had arrived. Raises UsageError for a parameter out of its range."""
        sampling = checked(sampling_of(self.parts.config, how))
        self.reply = ChatReply(ChatTurn(self, Message("user", text), sampling), on_progress)
        return self.reply

    def reset(self) -> None:
        """Forget what was said, but for the system prompt."""
        self.messages = [message for message in self.messages if message.role == "system"]
        self.reply, self.turn = None, ((), ())
        self.ledgers.clear()


@dataclass(slots=True, eq=False)
class ChatTurn:
    """One question of a conversation."""

    chat: Chat
    message: Message
    sampling: Sampling
    answer: Answer | None = None
    context: list[Message] = field(default_factory=list)
    """What was said before it."""

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
        prompt = await conversation.tokenize(model, [*self.context, self.message])
        answer = conversation.generate(model, prompt, self.sampling)
        answer.timing = timing
        return answer

    def ended(self) -> None:
        chat = self.chat
        if chat.holder is not self:
            return
        chat.holder = None
        chat.free.set()
        if self.answer is not None and self.answer.text:
            chat.turn = self.answer.conversation.turn
            chat.messages = [*self.context, self.message, Message("assistant", self.answer.text)]
