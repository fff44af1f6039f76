"""Which public answers a producer made lately, for auditors that ask.

Owns: this list and the question. Must not know: how answers are made. Answers of tenants are in no such list.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ndn_infer import ndn
from ndn_infer.functions.base import Host
from ndn_infer.ndn.name import Name
from ndn_infer.records.audit import MADE, MOST_MADE, MadeAnswers, MadeQuery
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.calls.direct import Topic
from ndn_infer.transport.objects.live_stream import LiveStream

REMEMBERED: Final = 256
FRESHNESS_MS: Final = 1000


class MadeBook:
    """Of one function. `note` an answer that is public, whole and sealed; those that the store lost are not told."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._made: deque[tuple[int, Name]] = deque(maxlen=REMEMBERED)

    def note(self, out: LiveStream) -> None:
        if out.closed and not out.failed:
            self._made.append((out.version, out.name))

    def answer(self, host: Host, signer: Signer) -> None:
        """Answer the question at this identity."""

        def made(query: MadeQuery) -> MadeAnswers | None:
            if query.model != self._model:
                return None
            later = [name for version, name in self._made if version > query.after_us and host.server.holds(name)]
            return MadeAnswers(tuple(map(ndn.to_uri, later[:MOST_MADE])))

        host.questions.answer(Topic(MADE, MadeQuery, lambda query, _: made(query), freshness_ms=FRESHNESS_MS), signer)
