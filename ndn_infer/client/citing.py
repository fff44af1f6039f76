"""The check of an answer's citations, as somebody who reads it asks for it: a call of the function `cite`.

Owns: this call, and what is done where nobody answers it or answers wrongly. Must not know: what counts as a citation
(evidence/citations.py), how the finding is shown. The check is a pure function of what the reader has too, so nobody
has to be believed: the reader computes it as well, and its own finding is the one that holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.client.answer import Answer
from ndn_infer.errors import BadRecord, NdnInferError
from ndn_infer.evidence.citations import citations
from ndn_infer.namespace import Call, CallClass
from ndn_infer.records.cite import CITE, SUBJECT, Citations, CiteRequest
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.asking import Answered

log = logging.getLogger(__name__)

WAIT_S: Final = 3.0
"""A check that takes longer holds nobody up."""


@dataclass(frozen=True, slots=True)
class CheckedCitations:
    """What an answer cites. `by`: the identity whose signed result says the same, "" where there is none; `result`: the
    name of that result; `wire`: the packet that it came in. `denied`: who signed something else."""

    found: Citations
    by: str = ""
    result: str = ""
    wire: bytes = b""
    denied: str = ""


async def checked_citations(answer: Answer, question: str) -> CheckedCitations | None:
    """Of an answer to `question` from passages, read to its end; None of another. Never fails: without the function in
    the network, the reader's own finding is all there is."""
    if not answer.cited or not answer.text.strip():
        return None
    found = citations(question, answer.text, [item.passage for item in answer.cited])
    request = CiteRequest(question, answer.text, tuple(item.name for item in answer.cited))
    try:
        async with asyncio.timeout(WAIT_S):
            told, said = await _asked(answer, request)
    except (NdnInferError, TimeoutError) as error:
        log.info("nobody checks citations here (%s): %s", CITE, error)
        return CheckedCitations(found)
    by = ndn.to_uri(told.signed_by.identity)
    if said != found:
        log.warning("%s says something else of the answer's citations than what is in it", by)
        return CheckedCitations(found, denied=by)
    return CheckedCitations(found, by, told.answer.result or _result(answer, request), told.how.wire)


async def _asked(answer: Answer, request: CiteRequest) -> tuple[Answered, Citations]:
    """Does not wait where no route leads. Raises a NdnInferError."""
    asking, answers = answer.conversation, list[Answered]()
    ask = Ask(SUBJECT, CITE, request, asking.domain, evidence=asking.evidence)
    first = await asking.caller.start(ask)
    if first.answer.value:
        return first, records.decode(Citations, first.answer.value)
    said = await asking.caller.call(ask, Citations, on_answer=answers.append)
    if not answers:
        raise BadRecord("an answer that nobody signed")
    return answers[-1], said


def _result(answer: Answer, request: CiteRequest) -> str:
    """The name that the result of a public call has; a private call's is its own."""
    if answer.conversation.domain != PUBLIC.label:
        return ""
    call = Call(*SUBJECT, CITE, CallClass.SHARED, hashlib.sha256(records.encode(request)).hexdigest())
    return ndn.to_uri(call.result().to_name(answer.conversation.ledger.net))
