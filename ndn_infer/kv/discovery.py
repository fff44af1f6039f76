"""Which blocks others hold: asked by name of whomever the network leads to, and of known holders directly.

Owns: both questions, the claims that come back, and the patience with them. Must not know: how a block's content is
fetched (fetch.py), when a search ends (search.py).

Discovery of a block goes out under its own name. Those who are known to hold KV are asked under their own names, and
answer with versions. A version makes the name of a metadata packet exact: it is fetched with a hint to its holder, and
another producer's "absent", which answers only the question for the newest version, cannot hide it, although the
forwarders on the way match Data to pending Interests by name alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.errors import BadRecord, KeyNotAllowed, NdnInferError, NetworkError, Timeout
from ndn_infer.kv import holders as questions
from ndn_infer.kv.holders import HolderBook
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.space import NamedBlocks
from ndn_infer.ndn.name import Name
from ndn_infer.transport.objects.fetched import Discovered

LEAST_PATIENCE_S: Final = 0.25
"""For one answer of a holder; longer where the round trip is. A search takes at most four times as long: what nobody
answered for by then is taken for absent."""


class BlockDiscovery:
    """Answers the questions of a search (search.Sought)."""

    def __init__(self, host: KvHost, blocks: NamedBlocks) -> None:
        self.holders = HolderBook()
        self.subject = blocks.subject
        self._host = host
        self._blocks = blocks

    def patience_s(self) -> float:
        """How long one answer of a holder is waited for."""
        return max(LEAST_PATIENCE_S, 8 * (self._host.fetcher.round_trip_s or 0.125))

    async def discover(self, value: bytes) -> Discovered | None:
        """The verified manifest of a block, from whichever producer the network asks; None when that one lacks it, or
        there is none: computing a block costs less than asking again whether there is one.

        Where somebody waits here for the same block, the forwarder has an Interest of that name pending already, and
        NFD says nothing to a second one that it cannot send elsewhere: then silence is believed after two round trips,
        as long as an answer that is not computed takes. Holders that are known are asked beside it, and waited for."""
        name = self._blocks.name(value)
        awaited_here = self._host.server.wanted_until((name,)) > clock.monotonic()
        try:
            async with asyncio.timeout(self.patience_s() / 4 if awaited_here else None):
                found = await self._host.fetcher.discover(name, patient=False)
        except (NdnInferError, TimeoutError):
            return None
        if found.manifest is None or not self._blocks.believes(found.signed_by.identity):
            return None
        self.holders.heard(found.signed_by.identity)
        if not found.arrival.from_content_store:
            self.holders.led_to(found.signed_by.identity, clock.monotonic())
        return found

    async def ask(self, identity: Name, values: Sequence[bytes]) -> list[int]:
        """What `identity` says it holds of `values`: versions, 0 for none."""
        versions = await questions.ask(self._host, self.subject, identity, values, self.patience_s())
        if versions is None:
            self.holders.silent(identity, clock.monotonic())
            return [0] * len(values)
        if any(versions):
            self.holders.heard(identity)
        return versions

    def more_to_ask(self, signer: Name, asked: Sequence[Name]) -> bool:
        """Whether the signer of a block that was found can tell which others it holds."""
        if len(asked) >= questions.MAX_ASKED or signer in asked or signer in self._blocks.own:
            return False
        return self.holders.to_ask((signer,), clock.monotonic())[:1] == [signer]

    async def claimed(self, value: bytes, identity: Name, version: int) -> tuple[Discovered, tuple[Name, ...]]:
        """The verified manifest of the version that `identity` claimed, and the hints that led to it. Raises Timeout or
        Nacked when nothing comes, another NdnInferError for what comes and is not that."""
        way = self.holders.way(identity, clock.monotonic())
        if not way:
            try:
                return await self._had(value, version, way), way
            except NdnInferError:
                self.holders.strayed(identity)
        return await self._had(value, version, (identity,)), (identity,)

    def not_kept(self, identity: Name, error: NdnInferError) -> bool:
        """A block that `identity` claimed could not be had from it. Whether that is news. If nothing came, it may be
        behind a link that is down, and is asked again soon; if something else came, it claims what it has not."""
        now = clock.monotonic()
        if isinstance(error, NetworkError):
            self.holders.silent(identity, now)
            return False
        return self.holders.lied(identity, now)

    async def _had(self, value: bytes, version: int, hints: tuple[Name, ...]) -> Discovered:
        """The believed manifest of this version from where `hints` lead. Raises as `claimed`."""
        name, patient = self._blocks.name(value), bool(hints)
        try:
            async with asyncio.timeout(4 * self.patience_s()):  # who is only slow is waited for
                found = await self._host.fetcher.discover(name, hints=hints, version=version, patient=patient)
        except TimeoutError as error:
            raise Timeout(f"no answer for {ndn.to_uri(name)}") from error
        if found.manifest is None:
            raise BadRecord(f"{ndn.to_uri(name)} is not there")
        if not self._blocks.believes(found.signed_by.identity):
            raise KeyNotAllowed(f"{ndn.to_uri(found.signed_by.identity)} is not believed here")
        return found
