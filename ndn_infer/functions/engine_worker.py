"""The thread in which an engine computes.

Owns: handing work from asyncio to one engine thread and results back, in order, between two steps of the engine, which
itself sees to it that all streams get on. Must not know: names, packets, what results are for.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ndn_infer import clock
from ndn_infer.engine.engine import Engine, StepOutput, Stream
from ndn_infer.engine.step_costs import EngineSpent
from ndn_infer.errors import ModelError
from ndn_infer.functions.gathered import Gathered, Listener, OnStep
from ndn_infer.functions.token_events import EventPace
from ndn_infer.records.sampling import Sampling

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

T = TypeVar("T")


class EngineWorker:
    """Owns the engine's thread. All methods are called from the event loop; callbacks run there too."""

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._commands: queue.SimpleQueue[Callable[[Engine], None] | None] = queue.SimpleQueue()
        self._listeners: dict[Stream, Listener] = {}
        self._gathered = Gathered()
        self._prefills: dict[Stream, Callable[[Engine], None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ready: asyncio.Future[Engine] | None = None
        self._users = 0
        self.known_as: set[bytes] = set()
        """What those who use this engine are called outside."""
        self.waiting = 0

    async def start(self) -> Engine:
        """Load the engine in its thread, the first time; returns it (its plain attributes may be read from anywhere).
        Who started it closes it."""
        self._users += 1
        if self._ready is None:
            self._loop = asyncio.get_running_loop()
            self._ready = self._loop.create_future()
            self._thread = threading.Thread(target=self._main, args=(self._ready,), name="engine", daemon=True)
            self._thread.start()
        return await asyncio.shield(self._ready)

    async def close(self) -> None:
        """The thread ends with its last user."""
        self._users -= 1
        if self._users == 0 and self._thread is not None:
            self._commands.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = self._ready = None

    async def run(self, work: Callable[[Engine], T]) -> T:
        """Run `work(engine)` between two steps and return its result."""
        assert self._loop is not None
        loop, future = self._loop, self._loop.create_future()
        self.waiting += 1

        def command(engine: Engine) -> None:
            try:
                result = work(engine)
            except Exception as error:
                loop.call_soon_threadsafe(_settle, future, None, error)
            else:
                loop.call_soon_threadsafe(_settle, future, result, None)

        self._commands.put(command)
        try:
            result: T = await future
            return result
        finally:
            self.waiting -= 1

    async def prefill(
        self, ids: Sequence[int], prefix: Sequence[torch.Tensor], on_block: Callable[[int, torch.Tensor], None], *,
        prompt_tokens: int = 0, cache_salt: str = "",
    ) -> EngineSpent:  # fmt: skip
        """KV of all full blocks of `ids` after `prefix`; `on_block(index, tensor)` as each becomes ready; what that
        took. A caller that is cancelled takes its stream with it. Options and errors: `Engine.start_prefill`."""
        assert self._loop is not None
        loop, done = self._loop, self._loop.create_future()

        def begin(engine: Engine) -> Stream:
            stream = engine.start_prefill(ids, prefix, prompt_tokens=prompt_tokens, cache_salt=cache_salt)
            self._prefills[stream] = lambda engine: deliver(engine, stream)
            return stream

        def deliver(engine: Engine, stream: Stream) -> None:
            for index, block in engine.take_blocks(stream):
                _post(loop, on_block, index, block)
            if stream.finished is not None:
                del self._prefills[stream]
                failed = stream.finished.startswith("error")
                _post(loop, _settle, done, None, ModelError(stream.finished) if failed else None)

        stream = await self._begin(begin)
        try:
            await done
        finally:
            self.cancel(stream)
        return stream.spent

    async def generate(
        self, ids: Sequence[int], params: Sampling, prefix: Sequence[torch.Tensor], on_step: OnStep, *,
        near: bool = False, cache_salt: str = "", arriving: bool = False, answered: int = 0,
        pace: EventPace | None = None,
    ) -> Stream:  # fmt: skip
        """Start a stream; `on_step` gets every step's output until one has `finished`. Those of a stream with a `pace`
        come together (StepOutput.more) where they leave together. Other options as in Engine.start."""

        def begin(engine: Engine) -> Stream:
            return engine.start(
                ids, params, prefix, near=near, cache_salt=cache_salt, arriving=arriving, answered=answered
            )  # fmt: skip

        return await self.follow(begin, on_step, pace)

    async def follow(
        self, begin: Callable[[Engine], Stream], on_step: OnStep, pace: EventPace | None = None
    ) -> Stream:  # fmt: skip
        """Start a stream as `begin(engine)` does, in the engine's thread; `on_step` and `pace` as in `generate`. Raises
        what `begin` does."""

        def listened(engine: Engine) -> Stream:
            stream = begin(engine)
            self._listeners[stream] = Listener(on_step, pace)
            return stream

        return await self._begin(listened)

    async def _begin(self, begin: Callable[[Engine], Stream]) -> Stream:
        """As `run`; when the caller is cancelled meanwhile, the stream that nobody knows of ends."""
        begun: list[Stream] = []

        def work(engine: Engine) -> Stream:
            begun.append(begin(engine))
            return begun[0]

        try:
            return await self.run(work)
        except asyncio.CancelledError:
            self._commands.put(lambda engine: self._drop(engine, begun[0]) if begun else None)
            raise

    def cancel(self, stream: Stream) -> None:
        """End a stream, if it has not ended; then its blocks can still be exported."""
        self._commands.put(lambda engine: self._drop(engine, stream))

    def pause(self, stream: Stream, paused: bool = True) -> None:
        """As Engine.pause."""
        self._commands.put(lambda engine: engine.pause(stream, paused))

    def supply(self, stream: Stream, layers: int) -> None:
        """As Engine.supply."""
        self._commands.put(lambda engine: engine.supply(stream, layers))

    # ------------------------------------------------------------ in the engine's thread

    def _main(self, ready: asyncio.Future[Engine]) -> None:
        assert self._loop is not None
        try:
            engine = self._load()
        except Exception as error:
            self._loop.call_soon_threadsafe(_settle, ready, None, error)
            return
        self._loop.call_soon_threadsafe(_settle, ready, engine, None)
        engine.costs.total.overhead_s = time.thread_time()  # loading
        going = True
        while going:
            with engine.costs.beside():
                going = self._take_commands(engine)
            if going:
                self._step(engine)

    def _take_commands(self, engine: Engine) -> bool:
        """Run what was asked for; waits when there is nothing else to do. False when the thread is to end."""
        idle = not self._listeners and not self._prefills  # nobody waits for anything
        while idle and self._commands.empty() and engine.prepare():
            pass
        wait = idle or engine.stalled
        if wait:
            self._give(at_once=True)
        while True:
            try:
                command = self._commands.get(block=wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            command(engine)
            wait = False

    def _step(self, engine: Engine) -> None:
        try:
            outputs = engine.step()
        except Exception as error:
            log.exception("the engine failed; its streams end")
            outputs = self._fail(engine, f"error: {error}")
        with engine.costs.beside():
            self._hand_out(engine, outputs)

    def _hand_out(self, engine: Engine, outputs: Sequence[StepOutput]) -> None:
        now = clock.monotonic()
        for output in outputs:
            listener = self._listeners.get(output.stream)
            if output.finished:
                self._listeners.pop(output.stream, None)
            if listener is not None:
                self._gathered.add(listener, output, now)
        self._give(at_once=engine.at_prompts)
        for deliver in list(self._prefills.values()):
            deliver(engine)

    def _give(self, *, at_once: bool) -> None:
        """To the event loop, once for all that waits."""
        if self._gathered.give(clock.monotonic(), at_once=at_once):
            assert self._loop is not None
            _post(self._loop, self._take)

    def _take(self) -> None:
        _tell(self._gathered.take())

    def _drop(self, engine: Engine, stream: Stream) -> None:
        listened = self._listeners.pop(stream, None)
        if self._prefills.pop(stream, None) is not None or listened is not None:
            engine.cancel(stream)

    def _fail(self, engine: Engine, words: str) -> list[StepOutput]:
        for stream in [*self._listeners, *self._prefills]:
            engine.cancel(stream)
            stream.finished = words
        return [StepOutput(stream, -1, 0.0, words) for stream in self._listeners]


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _tell(told: Sequence[tuple[OnStep, StepOutput]]) -> None:
    """What steps gave; a listener that fails takes no other one's tokens."""
    for on_step, output in told:
        try:
            on_step(output)
        except Exception:
            log.exception("what a step gave cannot be told")


def _post(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:  # the loop is closed: the process is ending
        log.debug("a result after the end")
