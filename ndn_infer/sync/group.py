"""A member of a sync group on an endpoint: publish, and be told what others published, each publication verified.

    group = SyncGroup(endpoint, validator, name, me=identity, signer=signer, on_publication=callback)
    await group.open()
    group.publish(content)

Owns: Sync Interests in and out, their signatures, one timer, answers to Interests below `<me>/<group>`, pulling from
named members. Must not know: what publications mean. All state is in `sync.core`; times are the event loop's, so a loop
of virtual time runs it too.

Three ways to hear of others, each enough: Sync Interests by multicast (the group registered, `hears`); a named
member's state (`pull`, and `SyncOptions.peers` for pulling all the time), which needs no registration but those of the
members' own names; and an observer without a key (`signer` None) hears, and says nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, NdnInferError
from ndn_infer.ndn import lp
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data
from ndn_infer.ndn.tlv import encode_tlv
from ndn_infer.security.crypto import Signer
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.sync.core.packets import (
    STATE_FRESHNESS_MS,
    SyncQuery,
    encapsulate,
    mapping_name,
    older_mapping_name,
    older_name,
    parse_asked,
    publication_name,
    renamed,
    sign_message,
    state_name,
    summary_of,
    sync_interest,
    vector_data,
    vector_name,
)
from ndn_infer.sync.core.state import Actions, SyncCore
from ndn_infer.sync.core.vector import encode_mapping
from ndn_infer.sync.fetching import Fetching, Publication
from ndn_infer.sync.options import Member as Member
from ndn_infer.sync.options import SyncCounts as SyncCounts
from ndn_infer.sync.options import SyncOptions as SyncOptions
from ndn_infer.sync.publications import Publications, Relayed
from ndn_infer.transport.link.endpoint import Endpoint, ReceivedInterest
from ndn_infer.transport.link.registration import Registrar

log = logging.getLogger(__name__)

MULTICAST: Final = ndn.from_uri("/localhost/nfd/strategy/multicast")
SEEN: Final = 1024
"""State Vector Data whose copies are dropped unread."""
VALIDATING: Final = 16
"""Vectors whose signers' certificates are being fetched; more are dropped."""
MAPPING_ENTRIES: Final = 64
PULL_ROUNDS: Final = 16


@dataclass(slots=True)
class _Seen:
    """Digests of the packets that came last."""

    digests: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def before(self, wire: bytes) -> bool:
        digest = hashlib.blake2b(wire, digest_size=16).digest()
        if digest in self.digests:
            return True
        self.digests[digest] = None
        if len(self.digests) > SEEN:
            self.digests.popitem(last=False)
        return False


class SyncGroup:
    """One membership. `me` is a name below which this application answers, empty for an observer; `signer` is its key.

    `on_publication` is called in the event loop, once for each publication. With `registrar` the prefixes are
    registered; a refusal of the group's is no error (`hears` is False then).
    """

    def __init__(
        self, endpoint: Endpoint, validator: Validator, group: Name, *, me: Name = b"", signer: Signer | None = None,
        registrar: Registrar | None = None, on_publication: Callable[[Publication], None] = lambda publication: None,
        options: SyncOptions | None = None,
    ) -> None:  # fmt: skip
        self.group, self.me, self.options = group, me if signer is not None else b"", options or SyncOptions()
        self._endpoint, self._validator, self._signer, self._registrar = endpoint, validator, signer, registrar
        self._on_publication = on_publication
        self.counts = SyncCounts()
        self.hears = False
        self._loop = asyncio.get_running_loop()
        seed = self.options.seed or random.getrandbits(64)
        epoch = self.options.wall_us() / 1e6 - self._loop.time()
        self.core = SyncCore(self.me, self._loop.time(), epoch=epoch, seed=seed, options=self.options.core)
        self.fetching = Fetching(endpoint, validator, group, self.options.fetch, self._deliver)
        self._own = Publications(self.options.kept)
        self._relayed = Relayed(self.options.relay_bytes)
        self._relaying: set[Name] = set()
        self._newest: tuple[bytes, Name | None, Signer | None] | None = None
        self._seen = _Seen()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    # ------------------------------------------------------------ life

    async def open(self) -> None:
        """Answer and listen, as far as the forwarder grants the prefixes.

        What is registered for Sync Interests is the group itself and not its `v=3` (which the specification
        recommends): NDNts registers the group without child-inherit, and an entry of ours below it would take all
        Interests from it."""
        self._endpoint.attach(vector_name(self.group), self._on_sync)
        if self.me:
            self._endpoint.attach(self.me + self.group, self._on_own)
        if self._registrar is not None:
            self.hears = await self._registered(self.group)
            if self.hears:
                await self._choose_multicast()
            if self.me:
                await self._registered(self.me + self.group)
        self._endpoint.on_connected(self._after_reconnect)
        for peer in self.options.peers:
            if peer != self.me:
                self._spawn(self._keep_pulling(peer))
        self._set_timer()

    async def close(self) -> None:
        """Stop at once; what was published is answered no longer."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.fetching.close()
        for prefix in (vector_name(self.group), self.me + self.group, *self._relaying):
            self._endpoint.detach(prefix)
        if self._registrar is not None and self._endpoint.connected:
            for prefix in {self.group, self.me + self.group} & set(self._registrar.prefixes):
                try:
                    await self._registrar.unregister(prefix)
                except NdnInferError as error:
                    log.debug("%s stays registered until it runs out: %s", ndn.to_uri(prefix), error)

    async def _registered(self, prefix: Name) -> bool:
        assert self._registrar is not None
        try:
            await self._registrar.register(prefix)
        except NdnInferError as error:
            log.info("%s is not registered: %s", ndn.to_uri(prefix), error)
            return False
        return True

    async def _choose_multicast(self) -> None:
        """At our forwarder, for the group alone: any other strategy gives an Interest to one member. Where that is the
        operator's business, the operator has done it."""
        assert self._registrar is not None
        parameters = encode_tlv(0x68, ndn.encode_name(self.group) + encode_tlv(0x6B, ndn.encode_name(MULTICAST)))
        try:
            response = await self._registrar.command("strategy-choice", "set", parameters, attempts=2)
        except NdnInferError as error:
            log.info("the strategy of %s was not set: %s", ndn.to_uri(self.group), error)
            return
        if response.code != 200:
            log.info("the strategy of %s was not set: %s %s", ndn.to_uri(self.group), response.code, response.text)

    async def _after_reconnect(self) -> None:
        """A forwarder that was started again has forgotten the strategy; the registrar sees to the prefixes."""
        if self.hears and not self._closed:
            await self._choose_multicast()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ publishing

    def publish(self, content: bytes, *, name: Name | None = None, inner_signer: Signer | None = None) -> int:
        """Publish, announce, and answer for it from now on; returns the sequence number.

        `name` is the application's name of the content, by default that of the publication itself; with
        `inner_signer` the encapsulated packet is signed too, so that it can be passed on alone. Raises BadPacket when
        names are too long for a packet.
        """
        assert self._signer is not None, "an observer publishes nothing"
        self._newest = (content, name, inner_signer)
        boot, sequence = self.core.boot, self.core.sequence + 1
        outer = publication_name(self.me, self.group, boot, sequence)
        packets = encapsulate(outer, name or outer, content, self._signer, inner_signer)
        self._own.add(boot, sequence, name or outer, packets)
        self._act(self.core.publish(self._loop.time()))
        return sequence

    def members(self) -> list[Member]:
        """All members that are known and not forgotten, ourselves included once we have published."""
        now, table = self._loop.time(), self.core.table
        return [Member(*entry, now - member.updated) for entry in table if (member := table.get(entry[:2])) is not None]

    # ------------------------------------------------------------ Sync Interests

    def _on_sync(self, request: ReceivedInterest) -> None:
        """Never answered: all members get it (section 4.3)."""
        try:
            data = vector_data(self.group, request.interest.parameters)
            if self._seen.before(data.wire):
                self.counts.copies += 1
                return
            validated = self._validator.try_validate(data)
        except NdnInferError as error:
            self._reject(error)
            return
        if validated is not None:
            self._take(data, validated)
        elif len(self._tasks) < VALIDATING + len(self.options.peers):
            self._spawn(self._verify_and_take(data))
        else:
            self.counts.dropped += 1

    async def _verify_and_take(self, data: Data) -> None:
        try:
            self._take(data, await self._validator.validate(data))
        except NdnInferError as error:
            self._reject(error)

    def _take(self, data: Data, validated: Validated) -> None:
        try:
            actions = self.core.take(self._loop.time(), data.content, summary_of(data), validated.identity)
        except BadPacket as error:
            self._reject(error)
            return
        self.counts.taken += 1
        self.counts.taken_bytes += len(data.wire)
        self._act(actions)

    def _reject(self, error: NdnInferError) -> None:
        self.counts.rejected += 1
        log.debug("a state vector was rejected: %s", error)

    def _act(self, actions: Actions, hints: tuple[Name, ...] = ()) -> None:
        for update in actions.updates:
            if update.name != self.me:
                self.fetching.want(update, hints)
        if actions.message is not None and self._signer is not None:
            self._send(sign_message(vector_name(self.group), actions.message, self._signer))
        self._set_timer()
        if actions.restarted and self._newest is not None:
            content, name, inner_signer = self._newest
            self.publish(content, name=name, inner_signer=inner_signer)

    def _send(self, vector: bytes) -> None:
        wire = sync_interest(self.group, vector)
        self._seen.before(vector)  # should it come back
        self.counts.sent += 1
        self.counts.sent_bytes += len(wire)
        self._endpoint.send_packed(wire, 1)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed:
            self._timer = self._loop.call_at(self.core.next_wake(), self._tick)

    def _tick(self) -> None:
        actions = self.core.tick(self._loop.time())
        for member in actions.forgotten:
            self._forget(member)
        self._act(actions)

    def _forget(self, member: Name) -> None:
        self.fetching.forget(member)
        self._relayed.drop(member)
        if member + self.group in self._relaying:
            self._relaying.discard(member + self.group)
            self._endpoint.detach(member + self.group)

    # ------------------------------------------------------------ publications of others

    def _deliver(self, publication: Publication) -> None:
        if self.me and publication.wire:
            self._relay(publication)
        self._on_publication(publication)

    def _relay(self, publication: Publication) -> None:
        """Answer for it too, for those who reach us by a forwarding hint and not its publisher."""
        member = publication.publisher
        self._relayed.keep(member, publication.boot, publication.sequence, publication.wire)
        prefix = member + self.group
        if prefix not in self._relaying:
            self._relaying.add(prefix)
            self._endpoint.attach(prefix, lambda request: self._on_relayed(member, request))

    def _on_relayed(self, member: Name, request: ReceivedInterest) -> None:
        asked = parse_asked(request.interest.name[len(member + self.group) :])
        wire = self._relayed.find(member, asked) if asked is not None else None
        self._reply(request, wire)

    # ------------------------------------------------------------ what others ask for

    def _on_own(self, request: ReceivedInterest) -> None:
        asked = parse_asked(request.interest.name[len(self.me + self.group) :])
        self._reply(request, self._answer(asked) if asked is not None else None)

    def _answer(self, asked: SyncQuery) -> bytes | None:
        assert self._signer is not None
        if asked.buckets is not None:
            message = self.core.answer(asked.buckets)
            name = state_name(self.me, self.group, asked.buckets)
            return sign_message(name, message, self._signer, STATE_FRESHNESS_MS)
        if asked.older:
            asked = replace(asked, boot=self.core.boot)
        if asked.high is None:
            return self._publication(asked, self._signer)
        names = self._own.names(asked, MAPPING_ENTRIES)
        if not names:
            return None
        name = mapping_name(self.me, self.group, asked.boot, asked.sequence, asked.high)
        if asked.older:
            name = older_mapping_name(self.me, self.group, asked.sequence, asked.high)
        return self._signer.sign_data(name, encode_mapping(self.me, names), freshness_ms=1000)

    def _publication(self, asked: SyncQuery, signer: Signer) -> bytes | None:
        wire = self._own.find(asked)
        if wire is None or not asked.older:
            return wire
        name = publication_name(self.me, self.group, asked.boot, asked.sequence)
        return renamed(wire, name, older_name(self.me, self.group, asked.sequence), signer)

    def _reply(self, request: ReceivedInterest, wire: bytes | None) -> None:
        if wire is not None:
            request.reply(wire)
        else:
            request.refuse(lp.REASON_NO_ROUTE)

    # ------------------------------------------------------------ pulling

    async def pull(self, peer: Name) -> int:
        """Learn what `peer` knows, and fetch what is new, from its publishers or else from `peer`; returns how many
        members had news. Raises NdnInferError when the peer does not answer, or not as a member."""
        news = buckets = listed = 0
        for _ in range(PULL_ROUNDS):
            name = state_name(peer, self.group, buckets)
            data, _arrival = await self._endpoint.express(name, must_be_fresh=True, lifetime_ms=2000)
            validated = await self._validator.validate(data)
            now, summary = self._loop.time(), summary_of(data)
            actions = self.core.learn(now, self.core.decode(now, data.content), validated.identity)
            news += len(actions.updates)
            self._act(actions, (peer,))
            listed |= summary.covered if summary is not None else 0
            buckets = self.core.differing(summary) & ~listed if summary is not None else 0
            if not buckets:
                break
        self.counts.pulls += 1
        return news

    async def _keep_pulling(self, peer: Name) -> None:
        while True:
            try:
                await self.pull(peer)
            except NdnInferError as error:
                self.counts.pulls_failed += 1
                log.debug("could not pull from %s: %s", ndn.to_uri(peer), error)
            await asyncio.sleep(self.options.pull_s * random.uniform(0.9, 1.1))
