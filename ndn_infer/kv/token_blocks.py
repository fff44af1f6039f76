"""Token blocks: the ids behind the chain values that name KV, as objects that prefill producers pull.

Owns: the publishing of them. Must not know: tensors, tokenizers.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ndn_infer import records
from ndn_infer.namespace import TokenBlock
from ndn_infer.ndn.name import Name
from ndn_infer.records import TokenBlockRecord
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import Domain
from ndn_infer.transport.objects.serve import Server

PUBLISHED_AT_ONCE: Final = 4
"""Token blocks signed in one turn of the event loop: a millisecond or two."""


async def publish_token_blocks(
    server: Server, net: Name, model: str, ids: tuple[int, ...], block: int, signer: Signer, domain: Domain
) -> None:  # fmt: skip
    """Publish every full block of `ids` that is not in the store yet; the names chain (chain.py). `ids` fit a context:
    that was checked. Others have their turn in between."""
    parent = domain.chain_seed(block)
    for number, value in enumerate(await asyncio.to_thread(domain.chain_values, ids, block)):
        if number % PUBLISHED_AT_ONCE == 0:
            await asyncio.sleep(0)
        base = TokenBlock(model, domain.label, value.hex()).to_name(net)
        if base not in server.store:
            record = TokenBlockRecord(parent.hex(), ids[number * block : (number + 1) * block])
            server.publish(base, domain.seal(base, records.encode(record)), signer)
        parent = value
