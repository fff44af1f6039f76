"""Blocks that this worker publishes: signed, stored, announced, and told to those who ask.

Owns: what of them is in the store, by tags; prefixes of the domains that something was published in. Runs in the
network's thread. Must not know: vLLM, how blocks of others are found or fetched.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from ndn_infer import ndn
from ndn_infer.kv import holders
from ndn_infer.kv.holders import TAG_BYTES, HoldsQuery
from ndn_infer.namespace import blocks_prefix
from ndn_infer.security.domains import Domain
from ndn_infer.transport.trust.presence import Presence, ProducerStatus
from ndn_infer.vllm.member import VllmMember
from ndn_infer.vllm.spaces import OpaqueBlocks, RankBlocks

log = logging.getLogger(__name__)

MOST_TAGS: Final = 65536


class BlockPublisher:
    """Of one rank."""

    def __init__(self, member: VllmMember, rank: RankBlocks) -> None:
        self._member = member
        self._rank = rank
        self._own = frozenset({member.signer.identity})
        node = member.node
        self._presence = Presence(node.net, member.server, node.registrar, node.keychain.certificates)
        self._spaces: dict[str, OpaqueBlocks] = {}
        self._tags: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()

    async def begin(self) -> None:
        """Answer below our identity. Raises RegistrationRefused."""
        member, signer = self._member, self._member.signer
        await self._presence.begin()
        self._presence.answer_certificates(signer.identity)
        member.server.serve(signer.identity, signer, denies=False)
        member.questions.answer(self._presence.status_topic(self.status), signer)
        holders.answer(member, signer, self._rank.model, self._versions_of)
        await member.node.registrar.register(signer.identity)

    def status(self) -> ProducerStatus:
        counters = {**self._member.counters, "store_bytes": self._member.server.store.used_bytes}
        return self._presence.status(self._member.signer.identity, (), counters)

    async def space(self, domain: Domain) -> OpaqueBlocks:
        """The blocks of a domain; what the store has of them is offered from the first time on. Every cache class and
        domain has a prefix of its own, so that nobody is asked for blocks that it cannot have."""
        known = self._spaces.get(domain.label)
        if known is None:
            known = self._spaces[domain.label] = OpaqueBlocks(self._member, self._rank, domain, self._own)
            for base in self._member.server.store.bases():
                value = known.subject.value_of(self._member.net, base)
                if value is not None:
                    self._note(domain.label, value)
            prefix = blocks_prefix(self._member.net, self._rank.model, "kv")
            prefix += ndn.generic(domain.label) + ndn.generic(self._rank.codec)
            self._member.server.serve(prefix, self._member.signer, denies=False)
            await self._presence.announce(prefix)
        return known

    async def publish(self, domain: Domain, value: bytes, content: bytearray) -> None:
        """Sign and store a block that this worker computed."""
        space = await self.space(domain)
        base = space.name(value)
        if base in self._member.server.store:
            return
        began = time.perf_counter()
        self._member.server.publish(base, memoryview(space.encode(base, content)), self._member.signer)
        self._note(domain.label, value)
        counters = self._member.counters
        counters["kv_blocks_published"] += 1
        counters["kv_bytes_published"] += len(content)
        counters["kv_publish_us"] += round((time.perf_counter() - began) * 1e6)

    def _note(self, label: str, value: bytes) -> None:
        self._tags[label, value[:TAG_BYTES]] = value
        while len(self._tags) > MOST_TAGS:
            self._tags.popitem(last=False)

    def _versions_of(self, tags: Sequence[bytes], query: HoldsQuery) -> Sequence[int]:
        """Under which version the block of each of these tags is in the store, 0 when it is not (any more)."""
        space = self._spaces.get(query.domain)
        if space is None or not space.subject.asked_by(query):
            return [0] * len(tags)
        return [self._version_of(space, query.domain, tag) for tag in tags]

    def _version_of(self, space: OpaqueBlocks, label: str, tag: bytes) -> int:
        value = self._tags.get((label, tag))
        if value is None:
            return 0
        base = space.name(value)
        manifest = self._member.server.store.manifest(base)
        if manifest is None:
            del self._tags[label, tag]
            return 0
        return ndn.last_version(manifest.name[len(base) :])  # hundreds are asked for at once
