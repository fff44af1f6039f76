"""KV by name through an unmodified NFD: blocks of several holders, found although each says "absent" of the others'."""

from __future__ import annotations

import asyncio
from pathlib import Path

import torch

from tests.interop.peers import needs, nfd
from tests.kv_kit import block_of, identities, stations, values_of

pytestmark = needs("nfd", "nfdc")


async def test_blocks_of_three_holders_behind_nfd(tmp_path: Path) -> None:
    with nfd(tmp_path) as peer:
        async with stations(uri=peer.uri("unix")) as (asker, p, a, b):
            values = values_of(48)
            p.hold(*values[:20])
            a.hold(*values[20:40])
            b.hold(*values[40:])

            async def pester() -> None:
                """Somebody else asks for the newest version all the time, and is told that there is none."""
                while True:
                    await asyncio.gather(*(b.kv.discovery.discover(value) for value in values))

            pestering = asyncio.ensure_future(pester())
            await asyncio.sleep(0.1)
            found = await asker.kv.find_prefix(values, identities(a, b))
            pestering.cancel()
            await asyncio.gather(pestering, return_exceptions=True)
            assert len(found.tensors) == 48 and all(map(torch.equal, found.tensors, map(block_of, values)))
            assert asker.host.counters["kv_claims_false"] == 0
