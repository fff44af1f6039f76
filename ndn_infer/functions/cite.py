"""cite: which of the passages that it was given an answer cites, and what in it is from none of them.

Owns: the function, and fetching the passages that a request names. Must not know: how citations are found
(evidence/citations.py), what becomes of an answer.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ndn_infer.errors import PromptError
from ndn_infer.evidence.citations import citations
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.records import PassageRecord
from ndn_infer.records.cite import CITE, SUBJECT, Citations, CiteRequest
from ndn_infer.together import together
from ndn_infer.transport.objects.passages import PassageReader

AT_ONCE: Final = 8
"""Passages that are fetched side by side for one call."""


class CheckCitations(NamedFunction[CiteRequest]):
    function = CITE
    role = CITE
    request_type = CiteRequest
    private = True

    def __init__(self) -> None:
        self.subject = SUBJECT

    def units(self, request: CiteRequest) -> float:
        """Passages, and thousands of characters."""
        return len(request.passages) + (len(request.question) + len(request.answer)) / 1000

    async def run(self, request: CiteRequest, job: Job) -> Citations:
        if not request.answer.strip():
            raise PromptError("the answer is empty")
        reader, room = PassageReader(job.host.fetcher, job.host.net, job.domain), asyncio.Semaphore(AT_ONCE)
        for uri in request.passages:
            reader.parse(uri)  # all of them, before any is fetched

        async def read(uri: str) -> PassageRecord:
            async with room:
                return await reader.read(uri)

        passages = await together(map(read, request.passages))
        found = await asyncio.to_thread(citations, request.question, request.answer, passages)
        job.host.counters["answers_cited" if found.cited else "answers_uncited"] += 1
        return found
