"""Programs that a measurement starts, and their ends.

Owns: that none is left behind. They end with the block that began them; SIGTERM, SIGHUP and Ctrl-C end that block
(`ended_by_signals` in ndn_infer/console/signals.py); when nothing of ours runs any more (SIGKILL), Linux tells them.
Must not know: what is measured.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

STOP_GRACE_S: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


@contextmanager
def background(command: list[str], *, output: int = subprocess.PIPE, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block."""
    process = subprocess.Popen(command, stdout=output, text=True, preexec_fn=_with_parent(), **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def run_to_end(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """As subprocess.run with captured text, for a process that ends when this one does."""
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=_with_parent(), **options)


def _with_parent() -> Callable[[], None] | None:
    """What a child does first: ask for SIGTERM when its parent has ended. Linux means the thread that forked it, so the
    main thread has to; elsewhere there is no such thing, and None is returned."""
    if not hasattr(_LIBC, "prctl"):
        return None
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children are started by the main thread: they end with the thread that started them")
    parent = os.getpid()

    def first() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it ended before this was asked for
            os._exit(0)

    return first
