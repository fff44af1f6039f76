"""One engine, shared by the functions of a process that need it.

Owns: loading the engine once for prefill and decode together, and its KV plane. Must not know: what either does.
"""

from __future__ import annotations

from pathlib import Path

from ndn_infer.config import EngineConfig
from ndn_infer.engine.engine import Engine
from ndn_infer.errors import UsageError
from ndn_infer.functions.base import Host
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.functions.kv_codec import CODECS, KvShape
from ndn_infer.functions.kv_plane import KvPlane


class EngineHost:
    """`worker` runs the engine; `plane` is made at the first start."""

    def __init__(self, model: str, folder: Path, config: EngineConfig) -> None:
        self._model = model
        self._config = config
        self.worker = EngineWorker(
            lambda: Engine.load(
                folder,
                dtype=config.dtype,
                weights=config.weights,
                device=config.device,
                threads=config.threads,
                chunk_tokens=config.chunk_tokens,
                block_tokens=config.block_tokens,
                max_streams=config.max_streams,
                queue_limit=config.queue_limit,
                kv_memory_mb=config.kv_memory_mb,
                sharing=config.sharing,
                speculation=config.speculation,
                attention=config.attention,
            )
        )
        self.engine: Engine | None = None
        self._plane: KvPlane | None = None

    async def plane(self, host: Host) -> KvPlane:
        """Load the engine if that has not happened; the KV plane of this process."""
        if self._plane is None:
            if self._config.kv_codec not in CODECS:
                raise UsageError(f"engine.kv_codec is one of {', '.join(CODECS)}, not {self._config.kv_codec}")
            self.engine = await self.worker.start()
            config = self.engine.model_config
            shape = KvShape(
                layers=config.layers,
                kv_heads=config.kv_heads,
                head_dim=config.head_dim,
                block_tokens=self._config.block_tokens,
                dtype=self._config.dtype,
                implementation=self.engine.implementation,
                form=self._config.kv_codec,
            )
            self._plane = KvPlane(host, self._model, shape, memory_mb=self._config.kv_at_hand_mb)
        return self._plane

    async def close(self) -> None:
        await self.worker.close()
