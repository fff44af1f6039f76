"""A progress bar on standard error for long work, silent when nobody watches.

Owns: how progress looks. Callables of the form (stage, done, total) draw it; they come from models/ and corpus/. Must
not know: what takes so long.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Final, Self

from tqdm import tqdm

from ndn_infer.console.terminal import raw

SHOW_AFTER_S: Final = 0.5
"""A stage that is over sooner is not worth a line."""


class ProgressLine:
    """Context manager; call it with (stage, done, total). A stage that lasts gets a line of its own."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._stage = ""
        self._began = 0.0
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        self._close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._quiet:
            return
        now = time.monotonic()
        if stage != self._stage:
            self._close()
            self._stage, self._began = stage, now
        if self._bar is None and now - self._began >= SHOW_AFTER_S:
            self._open(stage, total)
        if self._bar is not None:
            self._bar.total = max(total, 1)
            self._bar.n = min(done, self._bar.total)
            self._bar.refresh()

    def _open(self, stage: str, total: int) -> None:
        watched = sys.stderr.isatty()
        if not watched:
            print(f"  {stage} ...", file=sys.stderr, flush=True)
        self._bar = tqdm(
            total=max(total, 1), desc=f"  {stage}", disable=not watched, leave=True, file=raw(sys.stderr),
            bar_format="{desc}: {percentage:3.0f}% |{bar:30}| {elapsed}",
        )  # fmt: skip

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.n = self._bar.total
            self._bar.refresh()
            self._bar.close()
            self._bar = None
