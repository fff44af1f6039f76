"""KV blocks of vLLM instances through an unmodified NFD, sealed and in the clear."""

from __future__ import annotations

from pathlib import Path

from tests.interop.peers import needs, nfd
from tests.vllm_kit import TENANT, VALUES, instances

pytestmark = needs("nfd", "nfdc")


async def test_blocks_of_two_instances_behind_nfd(tmp_path: Path) -> None:
    with nfd(tmp_path) as peer:
        async with instances(3, peer.uri("unix")) as (a, b, c):
            await a.hold(VALUES[:5])
            await b.hold(VALUES[5:9])
            await a.hold(VALUES[:4], TENANT)
            found = await c.find(a, b)
            assert len(found) == 9
            assert not (await c.load(found)).failed and len(c.pages) == 9 and c.all_right()
            sealed = await c.find(a, b, domain=TENANT)
            assert len(sealed) == 4 and not (await c.load(sealed, TENANT)).failed and c.all_right()
