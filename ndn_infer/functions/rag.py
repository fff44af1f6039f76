"""rag: a corpus as named, signed passages, and `lookup`: the passages nearest in meaning to a question.

Owns: the function, the publishing of passages, embedding through the network's embed function. Must not know: how
passages are cut or indexed (corpus/), what a prompt does with them.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ndn_infer import clock, ndn, records
from ndn_infer.corpus.build import Progress
from ndn_infer.corpus.corpus import Corpus
from ndn_infer.corpus.passages import CorpusPassage
from ndn_infer.corpus.ranking import IndexQuery
from ndn_infer.errors import PromptError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.embedding import Embedding
from ndn_infer.namespace import passages_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import CorpusQuery, CorpusRecord, Hit, Hits, LookupRequest, PassageRecord, Record
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC, Domain
from ndn_infer.security.private_corpus import close_passage, corpus_in

log = logging.getLogger(__name__)

STEP_S: Final = 0.02
"""Answers to private lookups leave at multiples of this after their calls came: what an index had to look at takes some
milliseconds more or less, and does not show."""


def until_step(elapsed_s: float, step_s: float = STEP_S) -> float:
    """Seconds from now to the next multiple of `step_s`, of what has taken `elapsed_s`."""
    return max(math.ceil(elapsed_s / step_s) * step_s - elapsed_s, 0.0)


def record_of(passage: CorpusPassage) -> PassageRecord:
    """A passage as it is published."""
    return PassageRecord(passage.source, passage.title, passage.text, passage.index, passage.page)


@dataclass(frozen=True, slots=True)
class CorpusPlace:
    """Where a corpus is served: in the open, or in a tenant domain for its members only, under an alias of theirs."""

    domain: Domain = PUBLIC
    alias: str = ""

    def name(self, key: str) -> str:
        return corpus_in(self.domain, key)

    def check(self, job: Job) -> None:
        """Raises PromptError for a call in another domain."""
        if job.domain.label != self.domain.label:
            raise PromptError("this corpus is not offered in this domain")


class Lookup(NamedFunction[LookupRequest]):
    """Serves one corpus. `corpus` is opened (cut, embedded, indexed) before: see `open_corpus`."""

    function = "lookup"
    role = "rag"
    request_type = LookupRequest
    private = True

    def __init__(self, corpus: Corpus, embedder: str, place: CorpusPlace | None = None) -> None:
        self._place = place or CorpusPlace()
        self.subject = ("corpus", self._place.name(corpus.digest))
        self._corpus = corpus
        self._embedder = embedder
        self._names: dict[CorpusPassage, str] = {}

    async def start(self, host: Host, signer: Signer) -> None:
        """Publish every passage as a signed object named by the digest of its content, sealed in a tenant domain."""
        for passage in self._corpus.passages:
            record = records.encode(record_of(passage))
            base, content = close_passage(self._place.domain, host.net, self.subject[1], record)
            host.server.publish(base, content, signer, pinned=True)
            self._names[passage] = ndn.to_uri(base)
            if len(self._names) % 64 == 0:
                await asyncio.sleep(0)
        counters = host.counters if self._place.domain is PUBLIC else host.tenant_counters
        counters["passages_published"] += len(self._names)
        log.info("corpus %s: %d passages", self.subject[1][:12], len(self._names))

    def serves(self, net: Name) -> tuple[Name, ...]:
        return (passages_prefix(net, self.subject[1]),)

    async def run(self, request: LookupRequest, job: Job) -> Record:
        self._place.check(job)
        if not request.query.strip():
            raise PromptError("the question is empty")
        began = clock.monotonic()
        asked = await self._asked(Embedding(job.host.caller, self._embedder, job.domain.label), request.query)
        hits = await asyncio.to_thread(self._corpus.lookup, asked, request.limit)
        job.host.counters["lookups"] += 1
        if job.domain is not PUBLIC:
            await asyncio.sleep(until_step(clock.monotonic() - began))
        return Hits(tuple(Hit(self._names[hit.passage], round(hit.score, 6), round(hit.rank, 6)) for hit in hits))

    async def _asked(self, embedding: Embedding, question: str) -> IndexQuery:
        if self._corpus.ranking == "rerank":
            read = await embedding.tokens([question])
            return IndexQuery(question, read.pooled()[0], read)
        return IndexQuery(question, (await embedding.vectors([question]))[0])


class Describe(NamedFunction[CorpusQuery]):
    """What a corpus in a tenant domain is, by its alias or its digest: the catalogue says it of public ones."""

    function = "rag"
    role = "rag"
    request_type = CorpusQuery
    private = True

    def __init__(self, corpus: Corpus, embedder: str, place: CorpusPlace, key: str) -> None:
        self.subject = ("corpus", place.name(key))
        self._place = place
        self._record = CorpusRecord(
            place.alias or key, place.name(corpus.digest), len(corpus.passages), embedder, corpus.ranking
        )

    async def run(self, request: CorpusQuery, job: Job) -> Record:
        self._place.check(job)
        return self._record


def corpus_functions(corpus: Corpus, embedder: str, place: CorpusPlace) -> list[NamedFunction[Any]]:
    """All that serving a corpus takes."""
    lookup = Lookup(corpus, embedder, place)
    keys = dict.fromkeys((corpus.digest, *([place.alias] if place.alias else ())))
    return [lookup, *(Describe(corpus, embedder, place, key) for key in keys if place.domain is not PUBLIC)]


async def open_corpus(
    folder: Path, cache_dir: Path, embedding: Embedding, ranking: str = "auto", progress: Progress | None = None
) -> Corpus:
    """Read, embed (by calls, in batches) and index a folder; quick when it was done before."""
    return await asyncio.to_thread(
        Corpus.open, folder, cache_dir, embedder=embedding.from_threads(progress), embedder_id=embedding.model,
        ranking=ranking,
    )  # fmt: skip
