"""A vLLM process as a member of the network: its node, and what KV needs of it.

Owns: joining, also later where no forwarder answers yet, and the common end. Must not know: vLLM, blocks.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer import config as configuration
from ndn_infer.config import Config
from ndn_infer.errors import NdnInferError, NetworkError
from ndn_infer.ndn.name import Name
from ndn_infer.node import Node
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.networks import settle
from ndn_infer.security.access import Access
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domain_store import DomainStore
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.storage.opening import open_store
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.calls.direct import Questions
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.serve import Server

VLLM_ROLE: Final = "vllm"
RETRY_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Between attempts to join; the last one again and again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VllmMember:
    """A joined process (kv.host.KvHost)."""

    node: Node
    signer: Signer
    server: Server
    caller: Caller
    questions: Questions
    access: Access
    counters: Counter[str] = field(default_factory=Counter)

    @property
    def net(self) -> Name:
        return self.node.net

    @property
    def config(self) -> Config:
        return self.node.config

    @property
    def fetcher(self) -> Fetcher:
        return self.node.fetcher

    async def close(self) -> None:
        await self.questions.close()
        await self.node.close()
        self.server.store.close()


def member_config(settings: Sequence[str]) -> Config:
    """The configuration of a command in this environment, with these options. Raises ConfigError."""
    return settle(configuration.load(environment=os.environ, flags=settings))


def domain_files(config: Config) -> DomainStore:
    """The tenant domains of this machine."""
    return DomainStore(config.keys_dir)


def known_digests(config: Config) -> Path:
    """Where digests of weights are remembered."""
    return config.data_dir / "vllm-digests.json"


async def join(config: Config, *, serves: bool) -> VllmMember:
    """`serves`: it keeps objects, in the store that the configuration asks for. Raises NoForwarder, MissingKey."""
    keychain = await asyncio.to_thread(ensure_keys, config, (VLLM_ROLE,))
    node = await Node.join(config, keychain, offer_own=True)
    try:
        signer = node.signer_as(VLLM_ROLE)
        server = Server(node.endpoint, open_store(config, VLLM_ROLE) if serves else ObjectStore(1 << 20))
        access = node.access(signer)
        return VllmMember(node, signer, server, node.caller(access=access), Questions(server), access)
    except BaseException:
        await node.close()
        raise


async def join_sooner_or_later(
    config: Config, joined: Callable[[VllmMember], Awaitable[None]], *, serves: bool
) -> None:  # fmt: skip
    """Join, again and again while no forwarder answers, then tell `joined`, and leave when cancelled."""
    attempt = 0
    while True:
        try:
            member = await join(config, serves=serves)
            break
        except NetworkError as error:
            log.log(logging.DEBUG if attempt else logging.WARNING, "KV is not shared yet: %s", error)
        except NdnInferError as error:
            log.error("KV is not shared: %s", error)
            return
        await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
        attempt += 1
    try:
        await joined(member)
        await asyncio.Event().wait()
    finally:
        await member.close()
