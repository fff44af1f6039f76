"""The store that a configuration asks for.

Owns: from options to a store. Must not know: what is kept.
"""

from __future__ import annotations

from pathlib import Path

from ndn_infer.config import Config
from ndn_infer.storage.disk import DiskStore
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.storage.policy import policies_of
from ndn_infer.storage.tiered import TieredStore


def open_store(config: Config, role: str) -> ObjectStore:
    """In memory, or on disk as well. Each producer of a node has a file of its own. Raises ConfigError."""
    settings = config.producer
    if not settings.store_path:
        return ObjectStore(settings.store_mib << 20)
    path = Path(settings.store_path).expanduser()
    policies = policies_of(settings.store_policies)
    disk = DiskStore(path.with_name(f"{path.name}.{role}"), settings.store_disk_mib << 20, policies=policies)
    return TieredStore(settings.store_mib << 20, disk)
