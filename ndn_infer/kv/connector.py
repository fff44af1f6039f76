"""KV cache by name: which blocks a prompt needs, what exists, fetching and publishing them.

Owns: the meeting of KV tensors and names: chain values, search for the longest prefix, what is kept at hand. Must not
know: how a block looks as bytes (codec.py), who may hold one (holders.py), who computes a block, how a tensor is
used. One object holds one block of tokens for all layers.

The search asks two ways in the same instant. Discovery of every block goes out under its own name, to whomever the
network asks. Those who are known to hold KV are asked under their own names which of the blocks they have, and answer
with versions. A version makes the name of a metadata packet exact: it is fetched with a hint to its holder, and
another producer's "absent", which answers only the question for the newest version, cannot hide it, although the
forwarders on the way match Data to pending Interests by name alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import torch

from ndn_infer import ndn
from ndn_infer.errors import BadRecord, NdnInferError
from ndn_infer.kv import holders as questions
from ndn_infer.kv.codec import ArrivingBlock, BlockFormat, block_bytes, decode_block, encode_block
from ndn_infer.kv.holders import TAG_BYTES, HolderBook, Subject
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.plan import SHARING, Costs
from ndn_infer.kv.prefix import Common, FoundBlocks, Located, Origin, Source
from ndn_infer.kv.search import Search
from ndn_infer.namespace import Holds, KvBlock
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import decode_data
from ndn_infer.security.certificate import split_locator
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import OVERHEAD_BYTES, PAD_BYTES, PUBLIC, Domain
from ndn_infer.security.signer_policy import parse_signer_policy
from ndn_infer.transport.objects.fetched import Discovered
from ndn_infer.wire.manifest import ABSENT_FRESHNESS_MS

log = logging.getLogger(__name__)

LEAST_PATIENCE_S: Final = 0.25
"""For one answer of a holder; longer where the round trip is. A search takes at most four times as long: what nobody
answered for by then is taken for absent."""

MAX_TAGS: Final = 65536


class KvConnector:
    """KV blocks of one model in one process, of one domain. `common` is shared by all of a process."""

    def __init__(
        self, host: KvHost, model: str, fmt: BlockFormat, *, domain: Domain = PUBLIC, common: Common | None = None
    ) -> None:
        self.host = host
        self.model = model
        self._policy = parse_signer_policy(host.config.kv.trusted_signers)
        self.format = fmt
        self.domain = domain
        self.holders = HolderBook()
        self._common = common or Common(fmt.layout)
        self.estimates = self._common.estimates
        self._layers = f"0-{fmt.layout.layers - 1}"
        self._subject = Subject(model, self.domain.label, fmt.codec, self._layers)
        self._published: OrderedDict[bytes, bytes] = OrderedDict()
        """Chain values of blocks in the store, by their tags."""
        for base in host.server.store.bases():
            block = KvBlock.parse(host.net, base)
            if block is not None and (block.model, block.domain, block.codec, block.layers) == (
                model, self.domain.label, fmt.codec, self._layers,
            ):  # fmt: skip
                self._remember_tag(bytes.fromhex(block.chain))
        self._block_bytes = block_bytes(fmt)
        """Of the newest one seen: sealed ones are a little longer."""

    # ------------------------------------------------------------ names and bytes

    def chain(self, ids: Sequence[int]) -> list[bytes]:
        return self.domain.chain_values(ids, self.format.layout.block_tokens)

    def extend(self, parent: bytes, ids: Sequence[int]) -> bytes:
        """Chain value of the block `ids` after that of `parent`; b"" is before the first."""
        return self.domain.chain_extend(parent or self.domain.chain_seed(self.format.layout.block_tokens), ids)

    def name(self, value: bytes) -> Name:
        """Base name of the block whose chain value is `value`."""
        return KvBlock(self.model, self.domain.label, self.format.codec, value.hex(), self._layers).to_name(
            self.host.net
        )

    def _encode(self, base: Name, block: torch.Tensor) -> bytes:
        return self.domain.seal(base, encode_block(block, self.format))

    def _decode(self, base: Name, content: bytearray) -> torch.Tensor:
        """Takes `content`: the memory it was fetched to becomes the block where nothing has to be opened."""
        plain = content if self.domain is PUBLIC else self.domain.open(base, memoryview(content))
        return decode_block(plain, self.format)

    # ------------------------------------------------------------ what is at hand

    def local(self, value: bytes) -> tuple[torch.Tensor, Origin | None] | None:
        return self._common.get(self.domain.label, value)

    def remember(self, value: bytes, block: torch.Tensor, origin: Origin | None) -> None:
        """Keep a block at hand. `origin` is None only for what this process computed."""
        self._common.put(self.domain.label, value, block, origin)

    def publish(self, value: bytes, block: torch.Tensor, signer: Signer) -> None:
        """Sign and publish one block that was computed here, and keep it at hand. Never for a block of another's
        signature: see `pass_on`."""
        self.remember(value, block, None)
        base = self.name(value)
        if base not in self.host.server.store:
            began = time.perf_counter()
            packets = self.host.server.publish(base, self._encode(base, block), signer)
            self._block_bytes = packets.manifest.size
            self._remember_tag(value)
            self.host.counters["kv_blocks_published"] += 1
            self.host.counters["kv_publish_us"] += round((time.perf_counter() - began) * 1e6)

    async def pass_on(self, value: bytes, origin: Origin) -> bool:
        """Serve a block that somebody else computed, packet for packet, under its signature. Whether that can be done;
        else it has to be computed here."""
        base = self.name(value)
        if base in self.host.server.store:
            return True
        if origin.found is None:
            return False
        try:
            packets = await self.host.fetcher.packets(origin.found, hints=(origin.signer,))
        except NdnInferError as error:
            log.info("a KV block of %s is computed here: %s", ndn.to_uri(origin.signer), error)
            return False
        self.host.server.put(packets)
        self._remember_tag(value)
        self.host.counters["kv_blocks_passed_on"] += 1
        return True

    def _believed(self, signer: Name) -> bool:
        """Whether a verified block that this identity signed is used (option kv.trusted_signers)."""
        if signer in self._common.own or self._policy.believes(self.model, signer):
            return True
        self.host.counters["kv_signers_refused"] += 1
        log.info("KV of %s is not used: kv.trusted_signers does not name it", ndn.to_uri(signer))
        return False

    def _remember_tag(self, value: bytes) -> None:
        self._published[value[:TAG_BYTES]] = value
        while len(self._published) > MAX_TAGS:
            self._published.popitem(last=False)

    def _stored(self, value: bytes) -> tuple[torch.Tensor, Origin | None] | None:
        """A block out of our own store: the network would not lead us to ourselves. After a restart the signature alone
        tells who computed it."""
        base = self.name(value)
        packets = self.host.server.store.get(base) if value[:TAG_BYTES] in self._published else None
        if packets is None:
            return None
        try:
            locator = decode_data(packets.metadata).signature_info.key_locator
            located = split_locator(locator) if locator is not None else None
            if located is None or not self._believed(located.identity):
                return None
            block = self._decode(base, bytearray(packets.content()))
        except NdnInferError as error:
            log.warning("a KV block of our own store cannot be used: %s", error)
            return None
        origin = None if located.identity in self._common.own else Origin(located.identity)
        self.remember(value, block, origin)
        self.host.counters["kv_blocks_from_store"] += 1
        return block, origin

    def answer_holders(self, signer: Signer) -> None:
        """Answer questions which blocks are published here, under the identity of `signer`. Where there are connectors
        of several domains, see EngineHost."""
        self._common.own.add(signer.identity)
        questions.answer(self.host, signer, self.model, self.version_of)

    def version_of(self, tag: bytes, asked: Holds, layers: str) -> int:
        """The version under which the block of this tag is in the store, 0 when it is not (any more)."""
        value = self._published.get(tag)
        if value is None or (asked.domain, asked.codec, layers) != (self.domain.label, self.format.codec, self._layers):
            return 0
        manifest = self.host.server.store.manifest(self.name(value))
        if manifest is None:
            del self._published[tag]
            return 0
        return ndn.component_number(ndn.components(manifest.name)[-1], ndn.VERSION)

    # ------------------------------------------------------------ search

    def costs(self, *, engine_wait_s: float = 0.0) -> Costs:
        """What fetching and computing a block costs, by what was measured of late."""
        now = time.monotonic()
        return Costs(
            block_bytes=self._block_bytes,
            block_tokens=self.format.layout.block_tokens,
            round_trip_s=self.host.fetcher.round_trip_s or 0.0,
            goodput=self.estimates.goodput.value(now),
            prefill=self.estimates.prefill.value(now),
            engine_wait_s=engine_wait_s,
            sharing=self.estimates.sharing.value(now) or SHARING,
        )

    async def find_prefix(self, values: Sequence[bytes], hints: Sequence[Name] = ()) -> FoundBlocks:
        """The longest prefix of `values` that exists here or by name, fetched. A block that does not verify, or that
        nobody has, ends the prefix; what comes after it is computed."""
        located = await self.locate(values, hints)
        found = self.at_hand(located)
        found.extend(await self.fetch(located))
        return found

    async def locate(self, values: Sequence[bytes], hints: Sequence[Name] = ()) -> Located:
        """The longest prefix of `values` that is at hand or held by somebody, in about one round trip, whatever its
        length. `hints` are identities to ask before all others."""
        local: list[torch.Tensor] = []
        origins: list[Origin | None] = []
        for value in values:
            held = self.local(value)
            if held is None:
                held = self._stored(value)
                await asyncio.sleep(0)  # reading takes time that others want too
            if held is None:
                break
            local.append(held[0])
            origins.append(held[1])
        rest = list(values[len(local) :])
        if not rest:
            return Located(list(values), local, [], origins)
        began = time.monotonic()
        asked = self.holders.to_ask(hints, began, own=frozenset(self._common.own))
        search = Search(self, rest, asked)
        sources = await search.run()
        counters = self.host.counters
        counters["kv_searches"] += 1
        counters["kv_holders_asked"] += len(asked)
        counters["kv_holders_silent"] += search.unanswered
        counters["kv_search_us"] += round((time.monotonic() - began) * 1e6)
        return Located(list(values), local, sources, origins)

    def at_hand(self, located: Located) -> FoundBlocks:
        names = [ndn.to_uri(self.name(value)) for value in located.values[: len(located.local)]]
        return FoundBlocks(list(located.local), names, list(located.origins), local=len(located.local))

    def patience_s(self) -> float:
        """How long one answer of a holder is waited for."""
        return max(LEAST_PATIENCE_S, 8 * (self.host.fetcher.round_trip_s or 0.125))

    async def discover(self, value: bytes) -> Discovered | None:
        """The verified manifest of a block, from whomever the network asks; None when that one has not got it."""
        try:
            found = await self.host.fetcher.discover(self.name(value))
        except NdnInferError:
            return None
        if found.manifest is None or not self._believed(found.signed_by.identity):
            return None
        self.holders.heard(found.signed_by.identity)
        return found

    async def ask(self, identity: Name, values: Sequence[bytes]) -> list[int]:
        """What `identity` says it holds of `values`: versions, 0 for none."""
        versions = await questions.ask(self.host, self._subject, identity, values, self.patience_s())
        if versions is None:
            self.holders.silent(identity, time.monotonic())
            return [0] * len(values)
        if any(versions):
            self.holders.heard(identity)
        return versions

    # ------------------------------------------------------------ fetching

    async def fetch(self, located: Located, first: int = 0) -> FoundBlocks:
        """The held blocks from number `first` on, fetched all at once, up to the first that could not be had."""
        into, sources = FoundBlocks([], []), located.sources[first:]
        began, cpu_s, round_trip_s = time.monotonic(), time.thread_time(), self.host.fetcher.round_trip_s or 0.0
        got = await asyncio.gather(*(self._fetch_source(source) for source in sources))
        size = 0
        for source, item in zip(sources, got, strict=True):
            if item is None:
                break
            block, found = item
            into.take(block, ndn.to_uri(self.name(source.value)), found)
            assert found.manifest is not None
            self._block_bytes = found.manifest.size
            size += found.manifest.size
        now = time.monotonic()
        self.estimates.fetched(size, now - began, round_trip_s, now, busy_s=time.thread_time() - cpu_s)
        return into

    async def fetch_by_layers(
        self, located: Located, blocks: Sequence[ArrivingBlock], arrived: Callable[[int], None]
    ) -> FoundBlocks:
        """As `fetch`, into the memory of `blocks`, all side by side. `arrived` hears how many layers are there of all
        of them, but of the last layer, which is there when this returns as many blocks. Not for sealed blocks: they
        open as a whole."""
        began, cpu_s = time.monotonic(), time.thread_time()
        round_trip_s, into = self.host.fetcher.round_trip_s or 0.0, FoundBlocks([], [])
        layers, bad = self.format.layout.layers, set[int]()

        def on_bytes(count: int) -> None:
            there = [self._advance(block, number, count, bad) for number, block in enumerate(blocks)]
            if not bad:
                arrived(min(*there, layers - 1))

        found = await asyncio.gather(*(self._with_manifest(source) for source in located.sources))
        parts = [(item, hints, block.content) for (item, hints), block in zip(found, blocks, strict=True) if item]
        whole = [False] * len(blocks)
        if len(parts) == len(blocks):  # else no layer is ever there of all
            whole = await self.host.fetcher.read_side_by_side(parts, on_bytes)
        for number, (source, block) in enumerate(zip(located.sources, blocks, strict=True)):
            item, _ = found[number]
            if (
                item
                and whole[number]
                and self._advance(block, number, len(block.content), bad) == self.format.layout.layers
            ):
                self.host.counters["kv_blocks_fetched"] += 1
                self.remember(source.value, block.block, Origin(item.signed_by.identity, item))
            else:
                got = await self._fetch_source(source)
                if got is None:
                    break
                block.block.copy_(got[0])
                item = got[1]
            into.take(block.block, ndn.to_uri(self.name(source.value)), item)
        now = time.monotonic()
        size = len(into.tensors) * self._block_bytes
        self.estimates.fetched(size, now - began, round_trip_s, now, busy_s=time.thread_time() - cpu_s)
        return into

    async def _with_manifest(self, source: Source) -> tuple[Discovered | None, tuple[Name, ...]]:
        """The manifest of a block that fits our memory, and whom to ask for its segments."""
        found, hints = source.found, tuple[Name, ...]()
        if found is None and source.claims:
            identity, version = source.claims[0]
            found, hints = await self._claimed(source.value, identity, version), (identity,)
        if found is None or not found.in_place or found.manifest is None:
            return None, ()
        return (found, hints) if found.manifest.size == block_bytes(self.format) else (None, ())

    def _advance(self, block: ArrivingBlock, number: int, count: int, bad: set[int]) -> int:
        try:
            return block.advance(count)
        except BadRecord as error:
            if number not in bad:
                log.warning("KV block %d of a prompt is refused: %s", number, error)
                self.host.counters["kv_blocks_refused"] += 1
            bad.add(number)
            return 0

    async def _fetch_source(self, source: Source) -> tuple[torch.Tensor, Discovered] | None:
        """One block, from whoever has it."""
        if source.found is not None:
            block = await self._fetch(source.value, source.found)
            if block is not None:
                return block, source.found
        for identity, version in source.claims:
            found = await self._claimed(source.value, identity, version)
            block = None if found is None else await self._fetch(source.value, found, (identity,))
            if found is not None and block is not None:
                self.holders.heard(identity)
                return block, found
            self.host.counters["kv_claims_false"] += 1
            if self.holders.lied(identity, time.monotonic()):
                log.warning("%s has not got a KV block that it claimed", ndn.to_uri(identity))
        # A false claim may have ended the search before an honest answer came.
        found = await self.discover(source.value) if source.claims else None
        block = None if found is None else await self._fetch(source.value, found)
        return None if found is None or block is None else (block, found)

    async def _claimed(self, value: bytes, identity: Name, version: int) -> Discovered | None:
        try:
            async with asyncio.timeout(4 * self.patience_s()):  # who is only slow is no liar
                found = await self.host.fetcher.discover(self.name(value), hints=(identity,), version=version)
        except (NdnInferError, TimeoutError):
            return None
        return found if found.manifest is not None and self._believed(found.signed_by.identity) else None

    async def _fetch(self, value: bytes, item: Discovered, hints: tuple[Name, ...] = ()) -> torch.Tensor | None:
        """The block of a discovered manifest; once more straight from its signer when the network leads elsewhere."""
        base = self.name(value)
        try:
            content = self._room(item)
            try:
                await self.host.fetcher.read_into(item, content, hints=hints)
            except NdnInferError:
                signer = item.signed_by.identity
                if hints or signer in self._common.own:
                    raise
                await self.host.fetcher.read_into(item, content, hints=(signer,))
            block = self._decode(base, content)
        except NdnInferError as error:
            log.warning("KV block %s is computed instead: %s", value.hex()[:16], error)
            self.host.counters["kv_blocks_refused"] += 1
            return None
        self.remember(value, block, Origin(item.signed_by.identity, item))
        self.host.counters["kv_blocks_fetched"] += 1
        return block

    def _room(self, item: Discovered) -> bytearray:
        """Memory for the content of a block. Raises BadRecord for one that has another size than every block has."""
        assert item.manifest is not None
        size, plain = item.manifest.size, block_bytes(self.format)
        if not plain <= size <= plain + (0 if self.domain is PUBLIC else OVERHEAD_BYTES + PAD_BYTES):
            raise BadRecord(f"a KV block has {plain} bytes, this one {size}")
        return bytearray(size)

    async def await_blocks(
        self, values: Sequence[bytes], hint: Name, deadline_s: float, arrived: Callable[[], None]
    ) -> FoundBlocks:
        """Blocks that the producer behind `hint` is computing, as they appear; the prefix of them that arrived. What it
        passes on bears the signature of whoever computed it, and that one has to be believed too. `arrived` is called
        for each."""

        deadline = time.monotonic() + deadline_s

        async def one(value: bytes) -> tuple[torch.Tensor, Discovered] | None:
            while True:
                left_s = deadline - time.monotonic()
                try:
                    found = await self.host.fetcher.await_object(self.name(value), hints=(hint,), deadline_s=left_s)
                except NdnInferError:
                    return None
                if found.manifest is not None:
                    believed = self._believed(found.signed_by.identity)
                    block = await self._fetch(value, found, (hint,)) if believed else None
                    arrived()
                    return None if block is None else (block, found)
                # Only the producer we wait for can say that it will not come; a cache repeats what another holder said
                # to somebody else's question.
                theirs = found.signed_by.identity == hint and not found.arrival.from_content_store
                if theirs or left_s <= 0:
                    return None
                await asyncio.sleep(2 * ABSENT_FRESHNESS_MS / 1000)

        blocks = FoundBlocks([], [])
        for value, got in zip(values, await asyncio.gather(*(one(value) for value in values)), strict=True):
            if got is None:
                break
            blocks.take(got[0], ndn.to_uri(self.name(value)), got[1])
        if blocks.tensors:
            self.holders.heard(hint)
        return blocks
