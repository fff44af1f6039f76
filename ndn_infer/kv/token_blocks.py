"""Token blocks: the ids behind the chain values that name KV, as objects that prefill producers pull.

Owns: the publishing of them. Must not know: tensors, tokenizers.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class TokenChain:
    """What the names of token blocks depend on besides the tokens: the model, tokens in a block, the domain."""

    model: str
    block: int
    domain: Domain


async def publish_token_blocks(
    server: Server, net: Name, chain: TokenChain, ids: tuple[int, ...], signer: Signer
) -> None:
    """Publish every full block of `ids` that is not in the store yet; the names chain (chain.py). `ids` fit a context:
    that was checked. Others have their turn in between."""
    model, block, domain = chain.model, chain.block, chain.domain
    parent = domain.chain_seed(block)
    for number, value in enumerate(await asyncio.to_thread(domain.chain_values, ids, block)):
        if number % PUBLISHED_AT_ONCE == 0:
            await asyncio.sleep(0)
        base = TokenBlock(model, domain.label, value.hex()).to_name(net)
        if base not in server.store:
            record = TokenBlockRecord(parent.hex(), ids[number * block : (number + 1) * block])
            server.publish(base, domain.seal(base, records.encode(record)), signer)
        parent = value
