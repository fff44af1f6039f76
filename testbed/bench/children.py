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
_ENDINGS: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


@contextmanager
def background(command: list[str], *, output: int = subprocess.PIPE, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block.

    Signals wait while it is made: what their handlers raise in the midst of a fork is lost, as Python drops exceptions
    there, and the block would go on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        process = subprocess.Popen(command, stdout=output, text=True, preexec_fn=_first(before), **options)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def run_to_end(command: list[str], *, timeout: float) -> subprocess.CompletedProcess[str]:
    """As subprocess.run with captured text, for a process that ends when this one does. Raises TimeoutExpired."""
    with background(command, stderr=subprocess.PIPE) as process:
        output, errors = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _first(mask: set[int | signal.Signals]) -> Callable[[], None]:
    """What a child does first: take back the signals, and ask for SIGTERM when its parent has ended. Linux means the
    thread that forked it, so the main thread has to; elsewhere there is no such thing."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children are started by the main thread: they end with the thread that started them")
    parent, linux = os.getpid(), hasattr(_LIBC, "prctl")

    def first() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if linux:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
            if os.getppid() != parent:  # it ended before this was asked for
                os._exit(0)

    return first
