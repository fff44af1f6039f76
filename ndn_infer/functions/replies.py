"""What a producer says to those who call: answers, sealed as their work is, and refusals.

Owns: the signed Data of answers and refusals, for how long caches keep them, how often one asker is told what is wrong.
Must not know: what work goes on, who gets a seat.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Final

from ndn_infer import clock, ndn, records
from ndn_infer.errors import CallError, MissingKey, NdnInferError
from ndn_infer.functions.base import Host
from ndn_infer.ndn.lp import REASON_CONGESTION
from ndn_infer.records import CallAnswer
from ndn_infer.records.codes import FAILED, NOT_TRUSTED
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC, Domain, DomainEpoch
from ndn_infer.transport.calls.failures import code_of
from ndn_infer.transport.link.endpoint import ReceivedInterest
from ndn_infer.wire.shares import Allowance

log = logging.getLogger(__name__)

DONE_FRESHNESS_MS: Final = 3_600_000
RESULT_FRESHNESS_MS: Final = 600_000
ERROR_FRESHNESS_MS: Final = 10
REFUSALS: Final = (20.0, 50.0)
"""So many answers a second, and at once, that only say what is wrong are signed for one asker; a Nack, which costs
nothing, has to do beyond that."""
_REFUSED: Final = {"unknown-domain": "refused_domain", "busy": "refused_busy"}
"""Counters of refusals by their code; "refused" counts all others."""


class Replies:
    """To the calls of one function."""

    def __init__(self, host: Host, signer: Signer) -> None:
        self._host = host
        self._signer = signer
        self._refusals = Allowance(*REFUSALS)

    def reply(self, request: ReceivedInterest, answer: CallAnswer, domain: Domain) -> None:
        """An answer of work of this domain, sealed where that is a tenant's."""
        freshness_ms = DONE_FRESHNESS_MS if answer.value else RESULT_FRESHNESS_MS
        if answer.code:
            freshness_ms = ERROR_FRESHNESS_MS
        name, content = request.interest.name, records.encode(answer)
        if isinstance(domain, DomainEpoch):
            content = domain.seal_answer(name, content)
        wire = self._signer.sign_data(name, content, freshness_ms=freshness_ms)
        self._host.counters["answers"] += 1
        request.reply(wire)

    def fail(self, request: ReceivedInterest, answer: CallAnswer, domain: Domain, who: Hashable) -> None:
        """An answer that says why there is none; for somebody who gets many of them, a Nack."""
        if self._refusals.spend(who, clock.monotonic()):
            self.reply(request, answer, domain)
        else:
            request.refuse(REASON_CONGESTION)

    def refuse(self, request: ReceivedInterest, who: Hashable, error: NdnInferError) -> None:
        """Why a call does not get as far as work: in clear, as nobody can seal without the key. It tells nothing but
        what is wrong with this Interest."""
        code, text, back_s = code_of(error), str(error), 0.0
        if isinstance(error, CallError):
            back_s = error.retry_after_s
        elif isinstance(error, MissingKey):
            here = ndn.to_uri(self._signer.identity)
            code, text = "unknown-domain", f"{error}; {here} is not a member of the domain"
        elif code == NOT_TRUSTED:  # who signed the call, or what it brought
            code = "bad-request"
        elif code == FAILED:
            log.error("cannot look at a call: %s", error)
            text = "this producer cannot read its keys"
        self._host.counters[_REFUSED.get(code, "refused")] += 1
        log.debug("refused a call: %s", error)
        self.fail(request, CallAnswer(code=code, error=text, retry_after_ms=round(back_s * 1000)), PUBLIC, who)
