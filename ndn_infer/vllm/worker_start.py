"""The start of a worker's half: what its blocks are, then its network.

Owns: the order of these steps. Imports vLLM. Must not know: steps, requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from vllm.distributed.parallel_state import get_pp_group, get_tp_group

from ndn_infer.vllm.codec import BlockShape
from ndn_infer.vllm.engine_facts import cache_class, weights_folder
from ndn_infer.vllm.member import known_digests, member_config
from ndn_infer.vllm.model_digest import weights_digest
from ndn_infer.vllm.network import WorkerNetwork, WorkerPart
from ndn_infer.vllm.pages import PagedCache
from ndn_infer.vllm.settings import ConnectorSettings
from ndn_infer.vllm.spaces import RankBlocks
from ndn_infer.vllm.worker_side import WorkerSide


@dataclass(frozen=True, slots=True)
class WorkerHalf:
    side: WorkerSide
    network: WorkerNetwork


def start_worker(
    vllm_config: Any, settings: ConnectorSettings, caches: Mapping[str, torch.Tensor], blocks: tuple[int, int]
) -> tuple[WorkerHalf, RankBlocks]:
    """`blocks`: their number, and tokens in one. Waits for the network as long as the settings say. Raises BadRecord,
    ModelError, ConfigError."""
    number, tokens = blocks
    config = member_config(settings.set)
    cache = PagedCache(caches, number)
    rank = get_pp_group().rank_in_group, get_tp_group().rank_in_group
    kind = cache_class(vllm_config, cache, rank, tokens)
    model = settings.model_digest or weights_digest(weights_folder(vllm_config.model_config), known_digests(config))
    shape = BlockShape(tokens, cache.layer_bytes, kind.digest[:16])
    held = RankBlocks(model, kind.label, cache.layer_range, shape)
    place_in = rank[0] * get_tp_group().world_size + rank[1]
    network = WorkerNetwork(config, settings, WorkerPart(held, place_in, cache.write))
    network.wait_joined(settings.join_timeout_s)
    return WorkerHalf(WorkerSide(network, cache, shape), network), held
