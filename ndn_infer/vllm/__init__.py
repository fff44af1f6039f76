"""vLLM instances that share their KV cache by name (docs/vllm.md). Only the connector's modules import vLLM."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`NamedKVConnector`, for vLLM's `kv_connector_module_path`."""
    if name != "NamedKVConnector":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from ndn_infer.vllm.connector import NamedKVConnector

    return NamedKVConnector
