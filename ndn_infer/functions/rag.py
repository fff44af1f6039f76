"""rag: a corpus as named, signed passages, and `lookup`: the passages nearest in meaning to a question.

Owns: the function, the publishing of passages, embedding through the network's embed function. Must not know: how
passages are cut or indexed (corpus/), what a prompt does with them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path

from ndn_infer import ndn, records
from ndn_infer.corpus.build import Progress
from ndn_infer.corpus.corpus import Corpus
from ndn_infer.corpus.passages import CorpusPassage
from ndn_infer.corpus.ranking import IndexQuery
from ndn_infer.errors import PromptError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.embedding import Embedding
from ndn_infer.namespace import Passage, passages_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import Hit, Hits, LookupRequest, PassageRecord, Record
from ndn_infer.security.crypto import Signer

log = logging.getLogger(__name__)


def record_of(passage: CorpusPassage) -> PassageRecord:
    """A passage as it is published."""
    return PassageRecord(passage.source, passage.title, passage.text, passage.index, passage.page)


class Lookup(NamedFunction[LookupRequest]):
    """Serves one corpus. `corpus` is opened (cut, embedded, indexed) before: see `open_corpus`."""

    function = "lookup"
    role = "rag"
    request_type = LookupRequest

    def __init__(self, corpus: Corpus, embedder: str) -> None:
        self.subject = ("corpus", corpus.digest)
        self._corpus = corpus
        self._embedder = embedder
        self._names: dict[CorpusPassage, str] = {}

    async def start(self, host: Host, signer: Signer) -> None:
        """Publish every passage as a signed object named by the digest of its record."""
        for passage in self._corpus.passages:
            record = records.encode(record_of(passage))
            digest = hashlib.sha256(record).hexdigest()
            base = Passage(self._corpus.digest, digest).to_name(host.net)
            host.server.publish(base, record, signer, pinned=True)
            self._names[passage] = ndn.to_uri(base)
            if len(self._names) % 64 == 0:
                await asyncio.sleep(0)
        host.counters["passages_published"] += len(self._names)
        log.info("corpus %s: %d passages", self._corpus.digest[:12], len(self._names))

    def serves(self, net: Name) -> tuple[Name, ...]:
        return (passages_prefix(net, self._corpus.digest),)

    async def run(self, request: LookupRequest, job: Job) -> Record:
        if not request.query.strip():
            raise PromptError("the question is empty")
        asked = await self._asked(Embedding(job.host.caller, self._embedder), request.query)
        hits = await asyncio.to_thread(self._corpus.lookup, asked, request.limit)
        job.host.counters["lookups"] += 1
        return Hits(tuple(Hit(self._names[hit.passage], round(hit.score, 6), round(hit.rank, 6)) for hit in hits))

    async def _asked(self, embedding: Embedding, question: str) -> IndexQuery:
        if self._corpus.ranking == "rerank":
            read = await embedding.tokens([question])
            return IndexQuery(question, read.pooled()[0], read)
        return IndexQuery(question, (await embedding.vectors([question]))[0])


async def open_corpus(
    folder: Path, cache_dir: Path, embedding: Embedding, ranking: str = "auto", progress: Progress | None = None
) -> Corpus:
    """Read, embed (by calls, in batches) and index a folder; quick when it was done before."""
    return await asyncio.to_thread(
        Corpus.open, folder, cache_dir, embedder=embedding.from_threads(progress), embedder_id=embedding.model,
        ranking=ranking,
    )  # fmt: skip
