"""`NamedKVConnector`: vLLM's interface to KV connectors, over blocks by name.

Owns: from vLLM's objects to the two halves (scheduler_side.py, worker_side.py) and back. Imports vLLM. Must not know:
how blocks are named, found, fetched or published.

    --kv-transfer-config '{"kv_connector": "NamedKVConnector", "kv_connector_module_path": "ndn_infer.vllm",
                           "kv_role": "kv_both", "kv_load_failure_policy": "recompute"}'
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorWorkerMetadata,
)

from ndn_infer.errors import ConfigError, NdnInferError
from ndn_infer.vllm.connector_stats import Differences, NamedKVPromMetrics, NamedKVStats
from ndn_infer.vllm.jobs import StepJobs
from ndn_infer.vllm.requests import RequestReader, scheduled_in
from ndn_infer.vllm.scheduler_side import AskedRequest, SchedulerSide
from ndn_infer.vllm.settings import ConnectorSettings
from ndn_infer.vllm.spaces import RankBlocks

log = logging.getLogger(__name__)


@dataclass
class StepMetadata(KVConnectorMetadata):  # type: ignore[misc,unused-ignore]
    jobs: StepJobs = field(default_factory=StepJobs)


@dataclass
class RankMetadata(KVConnectorHandshakeMetadata):  # type: ignore[misc,unused-ignore]
    """What a worker holds, for the scheduler's half."""

    rank: RankBlocks


@dataclass
class DroppedBlocks(KVConnectorWorkerMetadata):  # type: ignore[misc,unused-ignore]
    """Blocks (domain, value) that a worker did not save after all."""

    blocks: list[tuple[str, bytes]]

    def aggregate(self, other: KVConnectorWorkerMetadata) -> KVConnectorWorkerMetadata:
        return DroppedBlocks(self.blocks + other.blocks)


class NamedKVConnector(KVConnectorBase_V1):  # type: ignore[misc,unused-ignore]
    """Each half joins the network by itself, in a thread of its own."""

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        transfer = vllm_config.kv_transfer_config
        if transfer.kv_load_failure_policy != "recompute":
            raise ConfigError(
                "what cannot be fetched has to be computed", hint='say "kv_load_failure_policy": "recompute"'
            )
        settings = ConnectorSettings.parse(transfer.kv_connector_extra_config)
        self._settings = settings.as_role(saves=transfer.is_kv_producer, loads=transfer.is_kv_consumer)
        self._differences = Differences()
        self._block_tokens = _block_tokens(kv_cache_config)
        self._scheduler: _SchedulerHalf | None = None
        self._worker: Any = None
        self._rank: RankBlocks | None = None
        if not self._block_tokens:
            log.error("KV is not shared: this model's cache has more than one kind of blocks")
        elif role == KVConnectorRole.SCHEDULER:
            self._scheduler = _SchedulerHalf(self._settings, self._block_tokens, kv_cache_config.num_blocks)

    @property
    def requires_kv_delivery(self) -> bool:
        return False

    # ------------------------------------------------------------ the scheduler's half

    def on_new_request(self, request: Any) -> None:
        if self._scheduler is not None:
            self._scheduler.begin(request)

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        if self._scheduler is None:
            return 0, False
        self._scheduler.begin(request)
        asked = AskedRequest(request.request_id, request.all_token_ids, num_computed_tokens)
        count = self._scheduler.side.matched(asked)
        return count, bool(count) and self._settings.load == "async"

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        if self._scheduler is not None and num_external_tokens:
            self._scheduler.side.allocated(request.request_id, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> StepMetadata:
        if self._scheduler is None:
            return StepMetadata()
        return StepMetadata(self._scheduler.side.scheduled(scheduled_in(scheduler_output, self._scheduler.requests)))

    def update_connector_output(self, connector_output: Any) -> None:
        if self._scheduler is None:
            return
        done, failed = connector_output.finished_recving or (), connector_output.invalid_block_ids or ()
        self._scheduler.side.loaded(tuple(done), tuple(failed))
        dropped = connector_output.kv_connector_worker_meta
        for domain, value in dropped.blocks if isinstance(dropped, DroppedBlocks) else ():
            self._scheduler.side.dropped(domain, [value])

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        if self._scheduler is not None:
            self._scheduler.end(request, block_ids)
        return False, None

    def set_xfer_handshake_metadata(self, metadata: dict[int, Any]) -> None:
        self.set_xfer_handshake_metadata_pp_aware({(0, rank): item for rank, item in metadata.items()})

    def set_xfer_handshake_metadata_pp_aware(self, metadata: dict[tuple[int, int], Any]) -> None:
        if self._scheduler is not None:
            ranks = [metadata[rank].rank for rank in sorted(metadata)]
            self._scheduler.network.tell(ranks)
            self._scheduler.network.wait_joined(self._settings.join_timeout_s)

    # ------------------------------------------------------------ a worker's half

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        if not self._block_tokens:
            return
        from ndn_infer.vllm.worker_start import start_worker

        try:
            self._worker, self._rank = start_worker(
                self._vllm_config, self._settings, kv_caches, (self._kv_cache_config.num_blocks, self._block_tokens)
            )
        except NdnInferError as error:
            log.error("KV is not shared: %s", error)

    def get_handshake_metadata(self) -> RankMetadata | None:
        return RankMetadata(self._rank) if self._rank is not None else None

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        if self._worker is not None:
            self._worker.side.begin_step(self._jobs())

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        if self._worker is not None:
            self._worker.side.load(self._jobs())

    def wait_for_layer_load(self, layer_name: str) -> None:
        """A block is there whole, or not at all."""

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        """Blocks are copied whole, at the end of the step."""

    def wait_for_save(self) -> None:
        if self._worker is not None:
            self._worker.side.end_step(self._jobs())

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        if self._worker is None:
            return None, None
        return None, self._worker.side.finished_loads(finished_req_ids) or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self._worker.side.failed_blocks() if self._worker is not None else set()

    def build_connector_worker_meta(self) -> DroppedBlocks | None:
        dropped = self._worker.network.dropped() if self._worker is not None else []
        return DroppedBlocks(dropped) if dropped else None

    def _jobs(self) -> StepJobs:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, StepMetadata)
        return metadata.jobs

    # ------------------------------------------------------------ both

    def shutdown(self) -> None:
        for half in (self._scheduler, self._worker):
            if half is not None:
                half.network.close()

    def get_kv_connector_stats(self) -> NamedKVStats | None:
        if self._scheduler is not None:
            return self._differences.of(self._scheduler.side.counters)
        if self._worker is None:
            return None
        network = self._worker.network
        return self._differences.of(self._worker.side.counters, network.counters, network.member_counters)

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> NamedKVStats:
        return NamedKVStats(data=data or {})

    @classmethod
    def build_prom_metrics(cls, *given: Any) -> NamedKVPromMetrics:
        return NamedKVPromMetrics(*given)


class _SchedulerHalf:
    """The scheduler's half with its network and the requests that it knows."""

    def __init__(self, settings: ConnectorSettings, block_tokens: int, blocks: int) -> None:
        from ndn_infer.vllm.member import domain_files, known_digests, member_config
        from ndn_infer.vllm.network import SchedulerNetwork
        from ndn_infer.vllm.tenants import SaltDomains

        config = member_config(settings.set)
        self.network = SchedulerNetwork(config, settings)
        self.side = SchedulerSide(settings, self.network, block_tokens, blocks)
        self.requests: dict[str, Any] = {}
        known: Path = known_digests(config)
        self._reader = RequestReader(settings, SaltDomains(domain_files(config)), block_tokens, known)

    def begin(self, request: Any) -> None:
        if request.request_id not in self.requests:
            self.requests[request.request_id] = request
            self.side.begin(request.request_id, self._reader.chain(request), request.num_prompt_tokens)

    def end(self, request: Any, block_ids: list[int]) -> None:
        if self.requests.pop(request.request_id, None) is not None:
            computed, ids = request.num_computed_tokens, request.all_token_ids
            self.side.finished(request.request_id, block_ids, computed, ids)


def _block_tokens(kv_cache_config: Any) -> int:
    """Tokens in a block; 0 where layers have blocks of different kinds."""
    groups = kv_cache_config.kv_cache_groups
    return groups[0].kv_cache_spec.block_size if len(groups) == 1 else 0
