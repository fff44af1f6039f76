"""Where processor time goes: seconds and wake-ups of processes, the main thread of each apart from its others.

Seconds on a processor hardly change when a machine is busy with other things, so they show what a name costs where
tokens a second show nothing but noise. Owns: reading Linux's /proc, what one token costs by process. Must not know:
what is measured, who these processes are. A thread that began and ended between two readings is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_NS: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Spent:
    """Of one process: seconds of its main thread (the event loop of ours) and of all its other threads (an engine and
    its helpers); `wakes`: how often the main thread went to sleep and was woken."""

    main_s: float = 0.0
    others_s: float = 0.0
    wakes: int = 0

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.main_s - other.main_s, self.others_s - other.others_s, self.wakes - other.wakes)

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.main_s + other.main_s, self.others_s + other.others_s, self.wakes + other.wakes)


Readings = Mapping[str, Spent]
"""By title of the process."""


def read(pids: Mapping[str, int]) -> Readings:
    """What these processes have spent since they began; nothing for one that is gone, or where there is no /proc."""
    return {title: _spent(pid) for title, pid in pids.items()}


def since(before: Readings, after: Readings) -> Readings:
    return {title: spent - before.get(title, Spent()) for title, spent in after.items()}


def together(readings: list[Readings]) -> Readings:
    """The sums of several readings of the same processes."""
    return {title: sum((one[title] for one in readings), Spent()) for title in readings[0]} if readings else {}


def per_token(spent: Readings, tokens: int, engine: str) -> dict[str, float]:
    """Milliseconds of processors and wake-ups for one of `tokens`, by process. The threads of the process `engine`
    beside its main thread compute tokens; `above_engine` is all but these: what names, signatures, processes cost."""
    figures: dict[str, float] = {}
    for title, one in spent.items():
        others_s = 0.0 if title == engine else one.others_s
        figures[f"cpu_ms_{title}"] = 1000 * (one.main_s + others_s) / tokens
        figures[f"wakes_{title}"] = one.wakes / tokens
    above = sum(value for name, value in figures.items() if name.startswith("cpu_ms_"))
    return figures | {"cpu_ms_above_engine": above, "cpu_ms_engine": engine_per_token(spent, tokens, engine)}


def engine_per_token(spent: Readings, tokens: int, engine: str) -> float:
    """Milliseconds of processors for one of `tokens`, of those threads that compute."""
    return 1000 * spent[engine].others_s / tokens


def children(pid: int) -> dict[str, int]:
    """Processes of ours that a process started, by what they were told to be: `forwarder`, or the last function of
    `produce --functions X,Y`."""
    found = {}
    for child in _children(pid):
        with suppress(OSError):
            words = (_PROC / str(child) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            found[_title(words)] = child
    return found


def _title(words: list[str]) -> str:
    """Of a command line `python -m ndn_infer COMMAND ...`."""
    if "--functions" in words:
        return words[words.index("--functions") + 1].rpartition(",")[2]
    return next((word for before, word in zip(words, words[1:], strict=False) if before == "ndn_infer"), words[0])


def _children(pid: int) -> list[int]:
    found = []
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(folder.name))
    return found


def _spent(pid: int) -> Spent:
    main = others = 0.0
    for thread, seconds in _threads(pid):
        if thread == pid:
            main += seconds
        else:
            others += seconds
    return Spent(main, others, _wakes(pid))


def _threads(pid: int) -> Iterator[tuple[int, float]]:
    """(thread, seconds) of a process."""
    with suppress(OSError):
        for name in os.listdir(_PROC / str(pid) / "task"):
            with suppress(OSError):
                on_processor, _, _ = (_PROC / str(pid) / "task" / name / "schedstat").read_text().split()
                yield int(name), int(on_processor) * _NS


def _wakes(pid: int) -> int:
    with suppress(OSError):
        for line in (_PROC / str(pid) / "task" / str(pid) / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                return int(line.split()[1])
    return 0
