"""The library: what `import ndn_infer` gives to a program that asks. `connect` and `connect_sync`, docs/library.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ndn_infer.library.blocking import SyncChat, SyncDocuments, SyncNetwork, SyncReply
from ndn_infer.library.chat import Chat, ChatReply
from ndn_infer.library.documents import Documents
from ndn_infer.library.joining import Embedded
from ndn_infer.library.network import Connection, HowToConnect, NamedObject, Network
from ndn_infer.library.saved import SavedAs
from ndn_infer.library.tools import MadeCall, tool_of
from ndn_infer.records.tools import Tool

__all__ = [
    "Chat", "ChatReply", "Connection", "Documents", "Embedded", "MadeCall", "NamedObject", "Network", "SavedAs",
    "SyncChat", "SyncDocuments", "SyncNetwork", "SyncReply", "Tool", "connect", "connect_sync", "tool_of",
]  # fmt: skip


def connect(
    *, model: str = "", embedded: Embedded = "never", settings: Mapping[str, object] | None = None,
    config_file: Path | None = None, policy: str | Path = "",
) -> Connection:  # fmt: skip
    """Join the network of this machine, as the commands do: `async with ndn_infer.connect() as network: ...`.

    `model` is asked where a question names none (empty: the option ask.model). `embedded`: "never" (default; without a
    running network NoForwarder is raised), "missing" (bring one up when none runs that offers the model, as
    `ndn-infer ask` does), "always". `settings` are options by name (docs/options.md), as {"call.deadline_s": 10}.
    `policy` (file, alias or digest): nothing is asked or given out that no verdict of a guard covers (docs/guard.md).
    """
    return Connection(HowToConnect(model, embedded, _settings(settings, policy), config_file))


def connect_sync(
    *, model: str = "", embedded: Embedded = "never", settings: Mapping[str, object] | None = None,
    config_file: Path | None = None, policy: str | Path = "",
) -> SyncNetwork:  # fmt: skip
    """The same without an event loop: `with ndn_infer.connect_sync() as network: ...`."""
    return SyncNetwork(HowToConnect(model, embedded, _settings(settings, policy), config_file))


def _settings(settings: Mapping[str, object] | None, policy: str | Path) -> Mapping[str, object]:
    return {**(settings or {}), **({"ask.policy": policy} if policy else {})}
