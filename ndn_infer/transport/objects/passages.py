"""Passages by name: fetched, verified, opened.

Owns: what a name has to be, and the bound on what is fetched. Must not know: who names them, what they are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.errors import BadName, BadRecord, FetchIncomplete
from ndn_infer.namespace import Passage
from ndn_infer.ndn.name import Name
from ndn_infer.records import PassageRecord
from ndn_infer.security.domains import Domain
from ndn_infer.security.private_corpus import open_passage
from ndn_infer.transport.objects.fetch import Fetcher

MAX_PASSAGE_BYTES: Final = 1 << 19
"""Of a passage's object: its text has 2^16 characters at most."""


@dataclass(frozen=True, slots=True)
class PassageReader:
    """Those of the network `net` that are sealed for `domain`, or in the open where it is the public one."""

    fetcher: Fetcher
    net: Name
    domain: Domain

    def parse(self, uri: str) -> tuple[Name, Passage]:
        """Raises BadRecord."""
        try:
            named = Passage.parse(self.net, base := ndn.from_uri(uri))
        except BadName:
            named = None
        if named is None:
            raise BadRecord(f"{uri[:200]!r} is not the name of a passage")
        return base, named

    async def read(self, uri: str) -> PassageRecord:
        """Raises BadRecord for another name, one that is too large or no passage; what fetching raises."""
        base, named = self.parse(uri)
        found = await self.fetcher.discover(base)
        if found.manifest is None:
            raise FetchIncomplete(f"there is no {uri}")
        content = (await self.fetcher.collect(found, most=MAX_PASSAGE_BYTES)).content
        return records.decode(PassageRecord, open_passage(self.domain, self.net, named.corpus, bytes(content)))
