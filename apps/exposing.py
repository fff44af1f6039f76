"""What a daemon that is asked to gives to Prometheus and to a collector of traces, while it runs.

Owns: that this happens where the configuration says so, aliases of models in labels. Must not know: what is counted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence

from ndn_infer import catalog
from ndn_infer.config import Config
from ndn_infer.metrics.meters import Meters
from ndn_infer.telemetry.spans import Tracer


@contextlib.asynccontextmanager
async def exposed(config: Config, meters: Sequence[Meters]) -> AsyncIterator[None]:
    """GET /metrics at `metrics.listen`, while the block lasts; without that option nothing is even imported. Raises
    AddressTaken, ConfigError."""
    if not config.metrics.binds:
        yield
        return
    from ndn_infer.metrics.exposition import Exposition
    from ndn_infer.metrics.listener import MetricsListener

    listener = MetricsListener(lambda: Exposition(meters, aliases_of(config)))
    await listener.change(config.metrics.binds)
    try:
        yield
    finally:
        await listener.close()


def tracer_of(config: Config, service: str) -> Tracer | None:
    """Where the configuration names a collector."""
    endpoint, share = config.telemetry.otlp_endpoint, config.telemetry.share
    return Tracer(f"ndn-infer {service}", share) if endpoint else None


@contextlib.asynccontextmanager
async def traced(config: Config, tracer: Tracer | None) -> AsyncIterator[None]:
    """Spans are sent while the block lasts; without a collector nothing is even imported."""
    if tracer is None:
        yield
        return
    from ndn_infer.telemetry.sender import sending

    async with sending(tracer, config.telemetry.otlp_endpoint):
        yield


def aliases_of(config: Config) -> Callable[[str], str]:
    """The alias of a model's digest by this machine's catalogue, "" where it has none; its files are read again when
    they change."""
    known: dict[str, str] = {}
    stamp: object = None

    def alias(digest: str) -> str:
        nonlocal known, stamp
        folder = config.catalog_dir / "model"
        with contextlib.suppress(OSError):
            now = os.stat(folder).st_mtime_ns
            if now != stamp:
                known, stamp = catalog.aliases(config.catalog_dir), now
        return known.get(digest, "")

    return alias
