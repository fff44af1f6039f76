"""The store's process is killed at 60 random moments (`-m slow`: 200): names answer correctly or not at all, and pins
that were acknowledged are all there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ndn_infer import config as configuration
from ndn_infer import ndn
from ndn_infer.errors import ConfigError, StoreFull
from ndn_infer.models.store import ModelFolder
from ndn_infer.namespace import blocks_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import encode_data
from ndn_infer.node.keys import net_name
from ndn_infer.records import TokenizeRequest, Tokens
from ndn_infer.storage.disk import DiskStore
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.wire.manifest import ObjectPackets, build_object
from ndn_infer.wire.peek import data_name
from tests.clients import client_of
from tests.daemons import environment_in
from tests.integration.test_repo import command_running


@pytest.mark.parametrize("moments", [60, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_many_moments(moments: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.integration.store_crasher", str(tmp_path), str(moments), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["rounds"] == moments
    assert found["wrong"] == found["partial"] == found["lost"] == found["damaged"] == 0
    assert found["acknowledged"] > moments and found["objects"] > 10 * moments, (
        "too little was written to show anything"
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def is_right(store: DiskStore, packets: ObjectPackets) -> bool:
    there = [(packets.metadata_name, packets.metadata), *packets.packets.items()]
    return all(store.packet(name) == wire for name, wire in there)


def objects(count: int) -> list[ObjectPackets]:
    rng, place = random.Random(5), ndn.from_uri("/small")
    return [build_object(place + ndn.segment(n), 1, rng.randbytes(500_000), encode_data) for n in range(count)]


def test_a_disk_that_fills_up_and_one_that_becomes_read_only(small_disk: Path) -> None:
    """What was acknowledged is answered throughout, also when nothing can be written at all, and errors are clear."""
    path, kept = small_disk / "store", []
    store = DiskStore(path, 1 << 30)
    for packets in objects(14):
        try:
            future = store.put(packets, pinned=True)
            assert future is not None
            future.result()
            kept.append(packets)
        except StoreFull as error:
            assert "disk is full" in str(error)
    assert 3 <= len(kept) < 14
    assert all(is_right(store, packets) for packets in kept)
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    store.close()  # with no room to tidy up
    store = DiskStore(path, 1 << 30)
    assert all(is_right(store, packets) for packets in kept)
    with pytest.raises(ConfigError, match="full"):
        DiskStore(small_disk / "other", 1 << 30)
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    store = DiskStore(path, 1 << 30)
    assert store.read_only and all(is_right(store, packets) for packets in kept)
    refused = store.put(objects(15)[-1], pinned=True)
    assert refused is not None
    with pytest.raises(StoreFull, match="cannot be written"):
        refused.result()
    store.close()
    with pytest.raises(ConfigError, match="cannot be used"):
        DiskStore(small_disk / "another", 1 << 30)


@pytest.mark.model
def test_a_producer_that_was_restarted_answers_old_names_with_the_same_bytes(
    tmp_path: Path, smollm2: ModelFolder, model_cache: Path
) -> None:
    runtime = Path(tempfile.mkdtemp(prefix="ndn-infer-t-"))  # short: a Unix socket path has 107 bytes
    file = tmp_path / "store" / "objects"
    environment = environment_in(
        tmp_path, model_cache, NDN_INFER_PATHS_RUNTIME_DIR=str(runtime), NDN_INFER_FORWARDER_CS_CAPACITY_PACKETS="0",
        NDN_INFER_PATHS_DATA_DIR=str(tmp_path / "data"), NDN_INFER_PRODUCER_STORE_PATH=str(file),
    )  # fmt: skip
    config = configuration.load(environment=environment)
    config = replace(config, network=replace(config.network, transport=f"unix://{config.socket_path}"))

    async def tokenize() -> None:
        async with client_of(config) as (client, _):
            text = "Blocks of tokens are objects, and objects outlive their producer. " * 8
            await client.caller.call(Ask(("model", smollm2.digest), "tokenize", TokenizeRequest(text=text)), Tokens)

    async def ask(names: list[Name]) -> list[bytes]:
        async with client_of(config) as (_, session):
            return [(await session.endpoint.express(name, lifetime_ms=1000))[0].wire for name in names]

    try:
        with command_running(tmp_path, environment, "forwarder"):
            with command_running(tmp_path, environment, "produce", "--functions", "tokenize"):
                asyncio.run(tokenize())
            store = DiskStore(file.with_name("objects.tokenize"), 1 << 30)
            tokens = blocks_prefix(net_name(config), smollm2.digest, "tokens")
            before = [found for base in store.bases() if base.startswith(tokens) and (found := store.metadata(base))]
            store.close()
            assert len(before) >= 4
            with command_running(tmp_path, environment, "produce", "--functions", "tokenize"):
                assert asyncio.run(ask([data_name(wire) for wire in before])) == before
    finally:
        shutil.rmtree(runtime, ignore_errors=True)
