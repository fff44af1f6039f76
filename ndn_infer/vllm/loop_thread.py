"""An event loop in a thread of its own, beside vLLM's.

Owns: the thread, work that is handed to it from other threads, its end. Must not know: what the work is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)

END_S: Final = 10.0
"""For everything that runs here to end; then the process goes on without it."""


class NetworkThread:
    """Runs until `close`. The thread never keeps a process alive."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._closed = False
        self._running: set[concurrent.futures.Future[Any]] = set()
        """The loop holds its tasks weakly: what only waits would be collected."""
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start `work`; from any thread. Cancelling the future cancels the work. After the end it is cancelled at
        once."""
        if self._closed:
            work.close()
            ended: concurrent.futures.Future[T] = concurrent.futures.Future()
            ended.cancel()
            return ended
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def post(self, call: Callable[[], object]) -> bool:
        """Call this in the thread, soon. Whether it is going to be."""
        if self._closed:
            return False
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)
            return True
        return False

    def close(self, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Do the `last` work, cancel what else runs, and end the thread; at most about END_S."""
        if self._closed:
            if last is not None:
                last.close()
            return
        ending = asyncio.run_coroutine_threadsafe(self._end(last), self._loop)
        self._closed = True
        try:
            ending.result(END_S)
        except Exception as error:
            log.warning("the network thread did not end cleanly: %s", error or type(error).__name__)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2.0)

    async def _end(self, last: Coroutine[Any, Any, None] | None) -> None:
        if last is not None:
            try:
                await asyncio.wait_for(last, END_S / 2)
            except Exception as error:
                log.warning("at the end: %s", error or type(error).__name__)
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
