"""KV blocks of a tenant domain over a real forwarder core: members share them, others can do nothing with them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import torch

from ndn_infer.kv.codec import encode_block
from ndn_infer.kv.connector import KvConnector
from ndn_infer.security.domains import PUBLIC, Domain, DomainEpoch
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES
from tests.kv_kit import FORMAT, LAYOUT, MODEL, Station, block_of, identities, stations

ID = "00112233445566778899aabbccddeeff"
TENANT = DomainEpoch(ID, 1, bytes(range(32)))
PROMPT = list(range(5 * LAYOUT.block_tokens))


def enter(station: Station, domain: Domain) -> KvConnector:
    """This station's connector, from now on that of another domain."""
    station.host = replace(station.host, answers=None)  # with what it answers for: one domain at a time
    station.kv = KvConnector(station.host, MODEL, FORMAT, domain=domain)
    station.kv.answer_holders(station.signer)
    return station.kv


def test_members_share_blocks_and_others_find_none() -> None:
    async def scenario() -> None:
        async with stations() as (asker, _, holder, _):
            connector = enter(holder, TENANT)
            values = connector.blocks.chain(PROMPT)
            for value in values:
                connector.published.publish(value, block_of(value), holder.signer)

            found = await enter(asker, TENANT).find_prefix(values, identities(holder))
            assert len(values) == len(found.tensors) == 5
            assert all(torch.equal(block_of(value), got) for value, got in zip(values, found.tensors, strict=True))
            assert all(f"/kv/{ID}.1/" in name for name in found.names)

            for stranger in (PUBLIC, DomainEpoch(ID, 1, bytes(32)), DomainEpoch(ID, 2, bytes(range(32)))):
                other = enter(asker, stranger)
                theirs = other.blocks.chain(PROMPT)
                assert not set(theirs) & set(values)
                assert (await other.find_prefix(theirs, identities(holder))).tensors == []

    asyncio.run(scenario())


def test_who_sees_a_name_gets_bytes_that_say_nothing() -> None:
    async def scenario() -> None:
        async with stations() as (asker, _, holder, _):
            value = enter(holder, TENANT).blocks.chain(PROMPT)[0]
            holder.hold(value)
            name = holder.kv.blocks.name(value)
            fetched = await asker.fetcher.fetch(name, most=MAX_OBJECT_BYTES, hints=identities(holder))
            plain = encode_block(block_of(value), FORMAT)
            assert TENANT.open(name, fetched.content) == plain
            assert not any(plain[at : at + 16] in fetched.content for at in range(0, len(plain), 16))
            # Another key under the same label: what comes is refused, and computed instead.
            found = await enter(asker, DomainEpoch(ID, 1, bytes(32))).find_prefix([value], identities(holder))
            assert found.tensors == []
            assert asker.host.counters["kv_blocks_refused"] >= 1

    asyncio.run(scenario())
