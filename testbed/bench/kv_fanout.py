"""Many readers of one prefix at once: what the origin sends, and how long it takes, beside Redis.

Owns: n consumers, each with a face of its own, that find and fetch all blocks of a prompt at the same moment. Must not
know: engines.
"""

from __future__ import annotations

import asyncio
import math
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.forwarder.management.encoding import decode_parameters
from ndn_infer.kv.codec import BlockFormat
from ndn_infer.kv.connector import KvConnector
from ndn_infer.ndn.tlv import encode_nonneg, encode_tlv
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.fetch_client import Redis, connected
from ndn_infer.testbed.bench.fetch_peers import find
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target
from ndn_infer.testbed.bench.kv_node import STORE_PACKETS, joined
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.links import connect
from ndn_infer.transport.link.registration import Registrar

READERS: Final = (1, 2, 4, 8, 16, 32)
ERASE_LIMIT: Final = 1_000_000
ERASED_AT_A_TIME: Final = 256
"""By one command at most, as with NFD."""


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """What every reader wants: all blocks of one prompt."""

    model: str
    format: BlockFormat
    ids: Sequence[int]

    @property
    def blocks(self) -> int:
        return len(self.ids) // self.format.layout.block_tokens

    @property
    def block_bytes(self) -> int:
        return 2 * math.prod(self.format.layout.shape)

    @property
    def packets(self) -> int:
        """Of all blocks: a signed manifest and segments each."""
        return self.blocks * (1 + -(-(self.block_bytes + 28) // 8000))


async def fan_out(
    target: Target, settings: Sequence[str], prefix: SharedPrefix, sent_since: Callable[[], int], place: Path
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Figures, peers and ratios, by number of readers. `sent_since` tells what the origin sent since the last time."""
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for readers in READERS:
        seconds, sent = await _read_together(target, settings, prefix, readers, sent_since)
        size = readers * prefix.blocks * prefix.block_bytes
        figures[f"fanout_{readers}_ms"] = seconds * 1000
        figures[f"fanout_{readers}_mb_s"] = size / seconds / 1e6
        ratios[f"fanout_{readers}_copies"] = sent / prefix.packets
        by_redis = _redis_together(place, prefix.blocks, prefix.block_bytes, readers)
        peers[f"redis_fanout_{readers}_ms"] = None if by_redis is None else by_redis * 1000
        ratios[f"fanout_{readers}_redis_over_ndn"] = None if by_redis is None else by_redis / seconds
    return figures, peers, ratios


async def _read_together(
    target: Target, settings: Sequence[str], prefix: SharedPrefix, readers: int, sent_since: Callable[[], int]
) -> tuple[float, int]:
    """(seconds, packets that the origin sent). The forwarder knows none of them beforehand."""
    joins = [await joined(f"unix://{target.path}", settings) for _ in range(readers)]
    connectors = [KvConnector(host, prefix.model, prefix.format) for _, host in joins]
    await forget(target)
    sent_since()
    began = time.perf_counter()
    found = await asyncio.gather(
        *(connector.find_prefix(connector.blocks.chain(prefix.ids)) for connector in connectors)
    )
    seconds = time.perf_counter() - began
    sent = sent_since()
    if any(len(one.tensors) != prefix.blocks for one in found):
        raise CannotMeasure(f"one of {readers} readers did not get every block")
    for node, _ in joins:
        await node.close()
    return seconds, sent


async def forget(target: Target) -> None:
    """Empty the forwarder's Content Store, by its own management protocol."""
    endpoint = Endpoint(lambda: connect(f"unix://{target.path}", 5.0))
    await endpoint.open()
    parameters = encode_tlv(0x68, ndn.encode_name(ndn.ROOT) + encode_tlv(0x84, encode_nonneg(ERASE_LIMIT)))
    registrar = Registrar(endpoint)
    for _ in range(-(-STORE_PACKETS // ERASED_AT_A_TIME)):
        told = await registrar.command("cs", "erase", parameters)
        if decode_parameters(told.body).capacity is None:  # as NFD says that there are no more
            break
    await endpoint.close()


# ---------------------------------------------------------------- Redis


def _redis_together(place: Path, blocks: int, size: int, readers: int) -> float | None:
    program = find("redis-server")
    if program is None:
        return None
    path = str(place / f"fan-{readers}.sock")
    command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", str(place),
               "--loglevel", "warning"]  # fmt: skip
    with background(command, output=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        filler = connected(path)
        for index in range(blocks):
            filler.set(b"b%d" % index, bytes(size))
        filler.close()
        clients = [Redis(path) for _ in range(readers)]
        threads = [threading.Thread(target=_read_all, args=(client, blocks)) for client in clients]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        for client in clients:
            client.close()
        return seconds


def _read_all(redis: Redis, blocks: int) -> None:
    redis.send_short(b"MGET", *(b"b%d" % index for index in range(blocks)))
    redis.line()
    for _ in range(blocks):
        redis.fill(memoryview(bytearray(int(redis.line()[1:]) + 2)))
