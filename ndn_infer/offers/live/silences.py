"""Who did not answer a question for its offer: how long it is left alone, and who may be there all the same.

Owns: what is remembered of such names. Must not know: how offers are asked for, whom a call needs. Pure: `now` is
monotonic seconds.

A producer may be there and too busy to say so, or behind a link that is cut for a moment. Of a name to which the
network says that no way leads nothing is hoped for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from ndn_infer.errors import Nacked
from ndn_infer.ndn.lp import REASON_NO_ROUTE
from ndn_infer.ndn.name import Name

SILENT_S: Final = (2.0, 30.0)
"""Who did not answer is not looked at again before the first, then twice that each time, the second at most."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Of a producer that did not answer: until when it is left alone, and how long that is."""

    until: float
    length_s: float

    @classmethod
    def after(cls, before: Silence | None, now: float) -> Silence:
        least, most = SILENT_S
        length_s = least if before is None else min(2 * before.length_s, most)
        return cls(now + length_s, length_s)


class Silences:
    """Of one application. Bounded by `keep`."""

    def __init__(self) -> None:
        self._silent: dict[Name, Silence] = {}
        self._nowhere: set[Name] = set()
        """To which no way led when they were asked last."""

    def due(self, name: Name, now: float) -> bool:
        """Whether it is looked at now."""
        return name not in self._silent or now >= self._silent[name].until

    def answered(self, name: Name) -> None:
        self._silent.pop(name, None)
        self._nowhere.discard(name)

    def failed(self, name: Name, error: Exception, now: float, *, looked: bool) -> None:
        """It did not answer. Where that was not while offers were looked at, as it was not due, the next look is not
        put off."""
        if looked:
            self._silent[name] = Silence.after(self._silent.get(name), now)
        if isinstance(error, Nacked) and error.reason == REASON_NO_ROUTE:
            self._nowhere.add(name)
        else:
            self._nowhere.discard(name)

    def is_nowhere(self, name: Name) -> bool:
        return name in self._nowhere

    def lately(self) -> Iterator[Name]:
        """Who was silent not time and again."""
        return (name for name, one in self._silent.items() if one.length_s < SILENT_S[1])

    def hoped(self) -> Iterator[Name]:
        """Of these, those to which a way may lead."""
        return (name for name in self.lately() if name not in self._nowhere)

    def keep(self, looked_at: Collection[Name], known: Collection[Name]) -> None:
        """Forget others: who is not looked at any more, and not known either."""
        self._silent = {name: silence for name, silence in self._silent.items() if name in looked_at}
        self._nowhere = {name for name in self._nowhere if name in looked_at or name in known}

    def clear(self) -> None:
        self._silent.clear()
