"""A program that kills a store's process again and again and looks at what is left.

    python -m tests.integration.store_crasher FOLDER ROUNDS SEED      prints one JSON line

In each round a child opens the store, puts objects (some pinned, acknowledged through a pipe when their future is
done), replaces and removes some, and is killed with SIGKILL at a random moment after a few of them, however quick the
machine is; then every name that any round ever
used is asked for. Objects are made from their name and version alone, so whoever reads knows what must be there.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

from ndn_infer import ndn
from ndn_infer.ndn.packet import encode_data
from ndn_infer.storage.disk import DiskStore
from ndn_infer.wire.manifest import ObjectPackets, build_object

CAPACITY = 24 << 20
NAMES = 40
MOST_PUTS = 5
USUAL_PUT_S = 0.02
SIZES = (0, 3000, 30_000, 370_000, 1_700_000)


def made(number: int, version: int) -> ObjectPackets:
    rng = random.Random(f"{number} {version}")
    content = rng.randbytes(rng.choice(SIZES))
    base = ndn.from_uri(f"/crash/{number}")
    return build_object(base, version, content, lambda name, content, **more: encode_data(name, content, **more))


def write_for_ever(path: Path, seed: int, versions: int, pipe: int) -> None:
    """Numbers below 8 are pinned; an acknowledgement is (number, version)."""
    rng, store = random.Random(seed), DiskStore(path, CAPACITY)
    os.write(pipe, struct.pack("<II", 0xFFFFFFFF, 0))
    for version in range(versions, versions + 10_000):
        number = rng.randrange(NAMES)
        if number >= 8 and rng.random() < 0.1:
            store.remove(ndn.from_uri(f"/crash/{number}"))
            continue
        future = store.put(made(number, version), pinned=number < 8)
        if future is not None:
            future.result()
            os.write(pipe, struct.pack("<II", number, version))


def run_and_kill(path: Path, seed: int, versions: int) -> list[tuple[int, int]]:
    """What a child acknowledged before it was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            write_for_ever(path, seed, versions, writer)
        finally:
            os._exit(1)
    os.close(writer)
    os.read(reader, 8)  # it has opened the store
    dice, began, acknowledged = random.Random(seed * 7 + 1), time.monotonic(), b""
    for _ in range(dice.randrange(MOST_PUTS)):
        acknowledged += os.read(reader, 8)
    one_put_s = (time.monotonic() - began) * 8 / len(acknowledged) if acknowledged else USUAL_PUT_S
    time.sleep(dice.uniform(0.0, one_put_s))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while chunk := os.read(reader, 1 << 16):
        acknowledged += chunk
    os.close(reader)
    return [struct.unpack_from("<II", acknowledged, at) for at in range(0, len(acknowledged) - 7, 8)]  # type: ignore[misc]


def look(path: Path, pinned: dict[int, int]) -> dict[str, int]:
    """Counts of what is there; wrong bytes and lost pins by their own keys."""
    counts = {"objects": 0, "packets": 0, "wrong": 0, "partial": 0, "lost": 0, "damaged": 0}
    store = DiskStore(path, CAPACITY)
    for number in range(NAMES):
        base = ndn.from_uri(f"/crash/{number}")
        manifest = store.manifest(base)
        if manifest is None:
            counts["lost"] += number in pinned
            continue
        version = ndn.component_number(ndn.components(manifest.name)[-1], ndn.VERSION)
        if number in pinned and version < pinned[number]:
            counts["lost"] += 1  # an older version than the one that was acknowledged
        packets = made(number, version)
        got = {name: store.packet(name) for name in (packets.metadata_name, *packets.packets)}
        right = {packets.metadata_name: packets.metadata, **packets.packets}
        counts["objects"] += 1
        counts["packets"] += len(got)
        counts["wrong"] += sum(wire is not None and wire != right[name] for name, wire in got.items())
        counts["partial"] += any(wire is None for wire in got.values())
    counts["damaged"] = store.damaged
    store.close()
    return counts


def main(arguments: list[str]) -> int:
    path, rounds, seed = Path(arguments[0]) / "store", int(arguments[1]), int(arguments[2])
    pinned: dict[int, int] = {}
    totals: dict[str, int] = {"rounds": rounds, "acknowledged": 0}
    for number in range(rounds):
        for which, version in run_and_kill(path, seed + number, 1 + number * 10_000):
            pinned[which] = version
            totals["acknowledged"] += 1
        for key, count in look(path, pinned).items():
            totals[key] = totals.get(key, 0) + count
    print(json.dumps(totals))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
