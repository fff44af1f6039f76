"""Our own producer and our own fetching client for `bench fetch`, each a process of its own.

Owns: publishing contents from files, one timed fetch with its statistics. Must not know: what else is measured.

    python -m ndn_infer.testbed.bench.fetch_ours fetch '{"uri": ..., ...}'     prints one JSON line
"""

from __future__ import annotations

import asyncio
import cProfile
import dataclasses
import hashlib
import json
import pstats
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ndn_infer import config as configuration
from ndn_infer.config import Config
from ndn_infer.console.collector import settle_collector
from ndn_infer.namespace import KvBlock
from ndn_infer.ndn.name import Name
from ndn_infer.node.keys import ensure_keys, net_name, role_identity
from ndn_infer.node.node import Node
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.fetch_child import Content, Sample, client_main, command, run_client
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target
from ndn_infer.transport.objects.serve import Server

ROLE: Final = "prefill"
STORE_BYTES: Final = 1 << 30
DEADLINE_S: Final = 240
PROFILE_ROWS: Final = 25


@dataclass(frozen=True, slots=True)
class Publisher:
    """A running producer of ours at one forwarder. `versioned` and `segments` are by label of the content."""

    target: Target
    base: Mapping[str, Name]
    versioned: Mapping[str, Name]
    segments: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the keys of a private network are, and the settings that its processes share."""

    settings: tuple[str, ...]
    net: Name

    @classmethod
    def make(cls, folder: Path, config: Config) -> Keys:
        """A network of its own, with the caller's settings of fetching."""
        fetch = dataclasses.replace(config.fetch, deadline_s=float(DEADLINE_S))
        settings = [f"fetch.{key}={value}" for key, value in dataclasses.asdict(fetch).items()]
        settings += [f"paths.data_dir={folder}", f"network.net={config.network.net}"]
        made = configuration.load(environment={}, flags=settings)
        ensure_keys(made, (ROLE,))
        return cls(tuple(settings), net_name(made))

    def base(self, label: str) -> Name:
        chain = hashlib.sha256(label.encode()).hexdigest()
        return KvBlock("ab" * 32, "public", "bf16", chain, "0-29").to_name(self.net)

    @contextmanager
    def publisher(self, target: Target, contents: Mapping[str, Content]) -> Iterator[Publisher]:
        """A producer that answers with these contents, by label, until the block ends. Raises CannotMeasure."""
        base = {label: self.base(label) for label in contents}
        objects = {base[label].hex(): str(content.path) for label, content in contents.items()}
        options = {"uri": f"unix://{target.path}", "settings": self.settings, "objects": objects}
        with background(command("fetch_ours", "publish", options)) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            document: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
            if "error" in document:
                raise CannotMeasure(f"the producer did not start at {target.title}: {document['error']}")
            made = {label: document[base[label].hex()] for label in contents}
            versioned = {label: bytes.fromhex(item["versioned"]) for label, item in made.items()}
            yield Publisher(target, base, versioned, {label: item["segments"] for label, item in made.items()})

    def fetch(self, path: str, label: str, content: Content, *, profile: bool = False) -> Sample:
        """One fetch of a content by a fresh process, its bytes compared. Raises CannotMeasure, WrongBytes."""
        options = {
            "uri": f"unix://{path}", "settings": self.settings, "base": self.base(label).hex(), "profile": profile,
        }  # fmt: skip
        return content.judge("ndn-infer", run_client("fetch_ours", "fetch", options))


# ---------------------------------------------------------------- processes


def fetch(uri: str, settings: list[str], base: str, *, profile: bool) -> dict[str, Any]:
    return asyncio.run(_fetch(uri, settings, bytes.fromhex(base), profile))


async def _join(uri: str, settings: list[str]) -> Node:
    config = configuration.load(environment={}, flags=settings)
    settle_collector()
    return await Node.join(config, ensure_keys(config, (ROLE,)), uri=uri)


async def _fetch(uri: str, settings: list[str], base: Name, profile: bool) -> dict[str, Any]:
    node = await _join(uri, settings)
    fetcher = node.fetcher
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    began, began_cpu = time.perf_counter(), time.process_time()
    found = await fetcher.discover(base)
    if found.manifest is None:
        raise CannotMeasure("the producer says that it has no such object")
    content = bytearray(found.manifest.size)
    fetched = await fetcher.read_into(found, content)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    if profile:
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(PROFILE_ROWS)
    await node.close()
    return {
        "seconds": seconds,
        "sha256": hashlib.sha256(content).hexdigest(),
        "segments": fetched.segments,
        "segments_from_store": fetched.segments_from_store,
        "bad_packets": fetcher.bad_packets,
        "cpu_seconds": cpu_seconds,
        "window": fetcher.window,
        "round_trip_ms": (fetcher.round_trip_s or 0.0) * 1000,
        **dataclasses.asdict(fetcher.stats),
    }


async def _publish(uri: str, settings: list[str], contents: Mapping[Name, bytes]) -> None:
    node = await _join(uri, settings)
    server = Server(node.endpoint, ObjectStore(STORE_BYTES))
    identity = role_identity(node.config, ROLE)
    signer = node.keychain.signer_for(identity)
    registrar = node.registrar
    await registrar.start()
    server.answer_certificates(identity, node.keychain.certificates)
    await registrar.register(identity)
    made = {}
    for name, content in contents.items():
        server.serve(name, signer)
        manifest = server.publish(name, content, signer, pinned=True).manifest
        made[name.hex()] = {"versioned": manifest.name.hex(), "segments": manifest.segments}
        await registrar.register(name)
    print(json.dumps(made), flush=True)
    await asyncio.Event().wait()


def publish(uri: str, settings: list[str], objects: dict[str, str]) -> dict[str, Any]:
    asyncio.run(
        _publish(uri, settings, {bytes.fromhex(base): Path(path).read_bytes() for base, path in objects.items()})
    )
    return {}


if __name__ == "__main__":
    sys.exit(client_main({"fetch": fetch, "publish": publish}, sys.argv[1:]))
