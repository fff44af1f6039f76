"""An engine of a given class, to audit with.

Owns: which options make that class, and its end. Must not know: what is audited.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from ndn_infer.config import EngineConfig
from ndn_infer.engine.engine import Engine
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.engine_class import EngineClass
from ndn_infer.errors import BadRecord, ConfigError
from ndn_infer.functions.audit.auditor import AuditEngine
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.kv.codec import BlockFormat


def options_for(of_engine: str, options: EngineConfig) -> EngineConfig:
    """`options`, changed to those of this class as far as options decide it; as they are for one that is not known."""
    try:
        wanted = EngineClass.parse(of_engine)
        return replace(
            options, dtype=wanted.dtype, weights=wanted.precision, attention=wanted.attention, kv_codec=wanted.kv,
            speculation="off",
        )  # fmt: skip
    except (BadRecord, ConfigError):
        return options


@asynccontextmanager
async def audit_engine(model: str, folder: Path, options: EngineConfig) -> AsyncIterator[AuditEngine]:
    """The engine of a prepared folder, until the block ends. Raises EngineUnavailable, DamagedCache."""
    worker = EngineWorker(lambda: Engine.load(folder, options))
    engine = await worker.start()
    try:
        yield of_worker(model, worker, engine, options, await asyncio.to_thread(ChatTokenizer.load, folder))
    finally:
        await worker.close()


def of_worker(
    model: str, worker: EngineWorker, engine: Engine, options: EngineConfig, tokenizer: ChatTokenizer
) -> AuditEngine:
    """With an engine that runs already."""
    kind = replace(engine.engine_class, kv=options.kv_codec)
    return AuditEngine(
        model, worker, kind, BlockFormat(engine.layout, kind.prompts, options.kv_codec), tokenizer
    )  # fmt: skip
