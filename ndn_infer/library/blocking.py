"""The plain form of the library, for programs without an event loop: the same words without `await`.

    with ndn_infer.connect_sync() as network:
        for piece in network.chat("What is the capital of France?"):
            print(piece, end="")

Owns: the thread in which the connection lives, and waiting for it. Must not know: what is asked. Usable from several
threads; an interrupt (Ctrl-C) of one that waits ends what it waited for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar, Unpack

from ndn_infer.client import Cited
from ndn_infer.client.citing import CheckedCitations
from ndn_infer.errors import UsageError
from ndn_infer.hermes import Piece
from ndn_infer.library.chat import Chat, ChatReply
from ndn_infer.library.continuing import Continued
from ndn_infer.library.documents import Documents
from ndn_infer.library.network import Connection, HowToConnect, NamedObject, Network
from ndn_infer.library.parameters import HowToAnswer, HowToAsk
from ndn_infer.library.saved import SavedAs
from ndn_infer.library.tools import MadeCall
from ndn_infer.records import Message, ModelRecord
from ndn_infer.transport.objects.ledger import Use
from ndn_infer.transport.objects.stream_pull import OnProgress

T = TypeVar("T")

END_S: Final = 30.0
"""How long the end of the thread is waited for."""


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ndn-infer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives. When the waiting is interrupted, the work is cancelled, and has ended before this
        returns."""
        if self._loop.is_closed():
            raise UsageError("the connection is closed")
        tasks: list[asyncio.Task[T]] = []
        future: Future[T] = Future()

        async def body() -> T:
            return await work()

        def start() -> None:
            tasks.append(self._loop.create_task(body()))
            tasks[0].add_done_callback(lambda task: _hand_over(task, future))

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            elif not future.done():  # interrupted before the loop was told
                future.set_exception(CancelledError())

        try:
            self._loop.call_soon_threadsafe(start)  # an interrupt is raised here as often as in the waiting
            return future.result()
        except BaseException:
            if not future.done():
                self._loop.call_soon_threadsafe(cancel)
                with suppress(CancelledError, Exception):
                    future.result(END_S)
            raise

    def close(self) -> None:
        """Ends the loop, and first the closing of what was left open in it."""
        if self._loop.is_closed():
            return
        with suppress(Exception):
            self.run(self._loop.shutdown_asyncgens)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_S)
        if not self._thread.is_alive():
            self._loop.close()

    @property
    def closed(self) -> bool:
        return self._loop.is_closed()


def _hand_over(task: asyncio.Task[T], future: Future[T]) -> None:
    if task.cancelled():
        future.set_exception(CancelledError())
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())


class SyncReply:
    """As ChatReply: `for piece in reply`, `reply.read()`. Leaving the loop ends the answer."""

    def __init__(self, thread: LoopThread, reply: ChatReply) -> None:
        self._thread = thread
        self.reply = reply
        """The reply itself: its text, names, signers, cited, timing."""

    @property
    def text(self) -> str:
        return self.reply.text

    @property
    def finish(self) -> str:
        return self.reply.finish

    @property
    def calls(self) -> tuple[MadeCall, ...]:
        return self.reply.calls

    @property
    def names(self) -> tuple[Use, ...]:
        return self.reply.names

    @property
    def signers(self) -> tuple[str, ...]:
        return self.reply.signers

    @property
    def cited(self) -> tuple[Cited, ...]:
        return self.reply.cited

    def __iter__(self) -> Iterator[str]:
        return self._each(self.reply.__aiter__())

    def pieces(self) -> Iterator[Piece]:
        """As ChatReply.pieces."""
        return self._each(self.reply.pieces())

    def _each(self, pieces: AsyncIterator[T]) -> Iterator[T]:
        try:
            while (piece := self._thread.run(lambda: anext(pieces, None))) is not None:
                yield piece
        finally:
            if not self._thread.closed:
                self._thread.run(self.reply.aclose)

    def read(self) -> str:
        """The whole text."""
        return self._thread.run(self.reply.read)


class SyncChat:
    """As Chat."""

    def __init__(self, thread: LoopThread, chat: Chat) -> None:
        self._thread = thread
        self.chat = chat
        """The conversation itself: its messages, model, names."""

    @property
    def messages(self) -> list[Message]:
        return self.chat.messages

    @property
    def names(self) -> tuple[Use, ...]:
        return self.chat.names

    def reset(self) -> None:
        """As Chat.reset."""
        self.chat.reset()

    def ask(self, text: str, *, on_progress: OnProgress | None = None, **how: Unpack[HowToAsk]) -> SyncReply:
        """As Chat.ask; `on_progress` is called in the connection's thread."""
        return SyncReply(self._thread, self.chat.ask(text, on_progress=on_progress, **how))

    def returned(self, results: Mapping[str, object], **how: Unpack[HowToAsk]) -> SyncReply:
        """As Chat.returned."""
        return SyncReply(self._thread, self.chat.returned(results, **how))


@dataclass(frozen=True, slots=True)
class SyncDocuments:
    """As Documents."""

    thread: LoopThread
    documents: Documents

    def ask(self, question: str, **how: Unpack[HowToAnswer]) -> SyncReply:
        return SyncReply(self.thread, self.documents.ask(question, **how))

    def search(self, question: str, *, limit: int = 5) -> tuple[Cited, ...]:
        return self.thread.run(lambda: self.documents.search(question, limit=limit))

    def cite(self, reply: SyncReply) -> CheckedCitations | None:
        return self.thread.run(lambda: self.documents.cite(reply.reply))


class SyncNetwork:
    """As Network, by `with`."""

    def __init__(self, how: HowToConnect) -> None:
        self._connection = Connection(how)
        self._thread: LoopThread | None = None
        self._network: Network | None = None

    @property
    def network(self) -> Network:
        """The network itself; its coroutines run in `thread`. Raises UsageError outside of the block."""
        if self._network is None:
            raise UsageError("not connected", hint="with ndn_infer.connect_sync() as network: ...")
        return self._network

    @property
    def thread(self) -> LoopThread:
        if self._thread is None:
            raise UsageError("not connected", hint="with ndn_infer.connect_sync() as network: ...")
        return self._thread

    @property
    def uri(self) -> str:
        return self.network.uri

    def chat(self, text: str, *, model: str = "", **how: Unpack[HowToAsk]) -> SyncReply:
        return SyncReply(self.thread, self.network.chat(text, model=model, **how))

    def conversation(
        self, *, model: str = "", system: str | None = None, domain: str = "", messages: Sequence[Message] = ()
    ) -> SyncChat:
        chat = self.network.conversation(model=model, system=system, domain=domain, messages=messages)
        return SyncChat(self.thread, chat)

    def resolve(self, alias: str) -> ModelRecord:
        return self.thread.run(lambda: self.network.resolve(alias))

    def save(self, chat: SyncChat, label: str, *, repo: str = "") -> SavedAs:
        return self.thread.run(lambda: self.network.save(chat.chat, label, repo=repo))

    def load(self, label: str, *, domain: str = "") -> SyncChat:
        return SyncChat(self.thread, self.thread.run(lambda: self.network.load(label, domain=domain)))

    def go_on(self, name: str, *, label: str = "", domain: str = "", model: str = "") -> Continued:
        """As Network.go_on."""
        return self.thread.run(lambda: self.network.go_on(name, label=label, domain=domain, model=model))

    def keep(self, continued: Continued, *, repo: str = "") -> tuple[SavedAs, str]:
        """As Network.keep."""
        return self.thread.run(lambda: self.network.keep(continued, repo=repo))

    def get(self, name: str) -> NamedObject:
        return self.thread.run(lambda: self.network.get(name))

    def evidence(self, reply: SyncReply) -> bytes:
        """As Network.evidence."""
        return self.thread.run(lambda: self.network.evidence(reply.reply))

    def remember(self, reply: SyncReply) -> None:
        """As Network.remember."""
        self.thread.run(lambda: self.network.remember(reply.reply))

    @contextmanager
    def documents(self, corpus: str | Path, *, model: str = "") -> Iterator[SyncDocuments]:
        block: AbstractAsyncContextManager[Documents] = self.network.documents(corpus, model=model)
        documents = self.thread.run(block.__aenter__)
        try:
            yield SyncDocuments(self.thread, documents)
        finally:
            self.thread.run(lambda: block.__aexit__(None, None, None))

    def __enter__(self) -> Self:
        """Raises as Connection.__aenter__."""
        self._thread = LoopThread()
        try:
            self._network = self._thread.run(self._connection.__aenter__)
        except BaseException:
            self._thread.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        try:
            self.thread.run(lambda: self._connection.__aexit__(None, None, None))
        finally:
            self.thread.close()
            self._network = None
