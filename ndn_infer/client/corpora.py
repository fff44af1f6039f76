"""Corpora as somebody who asks sees them: what one is, and its passages nearest to a question, each verified.

Owns: these calls, in the open and in a tenant domain. Must not know: conversations, what passages are for.
"""

from __future__ import annotations

from dataclasses import dataclass

from ndn_infer import ndn, records
from ndn_infer.client.passages import Cited
from ndn_infer.errors import BadRecord, NetworkError, UnknownModel
from ndn_infer.namespace import Passage
from ndn_infer.ndn.name import Name
from ndn_infer.records import CorpusQuery, CorpusRecord, Hit, Hits, LookupRequest, PassageRecord
from ndn_infer.security.private_corpus import corpus_in, open_passage
from ndn_infer.together import together
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.passages import MAX_PASSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Corpora:
    """Those of the network `net` in the domain of this label."""

    net: Name
    caller: Caller
    fetcher: Fetcher
    domain: str

    async def private(self, alias: str) -> CorpusRecord:
        """What a producer of the tenant domain says of the corpus of this alias or digest. Raises UnknownModel."""
        subject = ("corpus", corpus_in(self.caller.domain(self.domain), alias))
        ask = Ask(subject, "rag", CorpusQuery(), self.domain)
        try:
            first = await self.caller.start(ask)  # does not wait where no route leads
            if first.answer.value:
                return records.decode(CorpusRecord, first.answer.value)
            return await self.caller.call(ask, CorpusRecord)
        except NetworkError as error:
            hint = "'ndn-infer produce --functions rag --corpus DIR --corpus-domain NAME' serves one"
            raise UnknownModel(f"no corpus called {alias!r} is offered in this domain", hint=hint) from error

    async def lookup(self, corpus: CorpusRecord, query: str, limit: int) -> tuple[Cited, ...]:
        """The passages nearest to `query`, each fetched by name, verified and compared with the digest in its name; one
        that is another text under that name is asked for at the producer that answered. In a tenant domain the question
        is sealed, and so are the passages. Raises BadRecord for a hit that is no passage of `corpus`."""
        producers: dict[Name, None] = {}
        hits = await self.caller.call(
            Ask(("corpus", corpus.digest), "lookup", LookupRequest(query, limit), self.domain), Hits,
            on_answer=lambda answered: producers.update({answered.signed_by.identity: None}),
        )  # fmt: skip
        at = tuple(reversed(producers))
        return tuple(await together(self._fetched(corpus, hit, at) for hit in hits.hits[:limit]))

    async def _fetched(self, corpus: CorpusRecord, hit: Hit, elsewhere: tuple[Name, ...]) -> Cited:
        named = Passage.parse(self.net, base := ndn.from_uri(hit.name))
        if named is None or named.corpus != corpus.digest:
            raise BadRecord(f"lookup answered with {hit.name[:200]!r}, which is not a passage of corpus {corpus.alias}")
        fetched = await self.fetcher.fetch(base, most=MAX_PASSAGE_BYTES, elsewhere=elsewhere)
        clear = open_passage(self.caller.domain(self.domain), self.net, corpus.digest, fetched.content)
        return Cited(hit.name, hit.score, records.decode(PassageRecord, clear), fetched.signed_by, hit.rank)
