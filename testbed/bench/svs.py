"""State Vector Sync in virtual time: members of which 1 % publish each second, over a lossy broadcast medium and over a
graph of 20 forwarders with 1 % loss a link. The same seed gives the same times and bytes on every machine; processor
time is this machine's. `--full` adds 1,000 members (some minutes). Owns: which cells are run, the table.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any, Final

from ndn_infer.config import Config
from ndn_infer.security.crypto import PrivateKey, PublicKey
from ndn_infer.testbed.bench.report import print_report
from ndn_infer.testbed.sync_simulation import BROADCAST, GRAPH, Figures, GroupLoad, GroupNetwork, SyncWorld

NETWORKS: Final = {"broadcast, 2 % loss": BROADCAST, "20 forwarders, 1 % loss a link": GRAPH}
VERIFICATIONS: Final = 200


def run(options: argparse.Namespace, config: Config) -> int:
    figures: dict[str, Any] = {}
    for members in (100, 1000) if options.full else (100,):
        for title, network in NETWORKS.items():
            load = GroupLoad(members=members, seconds=30.0 if members < 1000 else 10.0)
            figures |= cells(f"{members} members, {title}", network, load)
    figures["verifying one vector, us"] = verify_us()
    print_report("svs", figures, {}, {})
    return 0


def cells(title: str, network: GroupNetwork, load: GroupLoad) -> dict[str, Any]:
    found = SyncWorld(network, load, newcomer=True).run()
    return {f"{title}: {name}": value for name, value in described(found).items()}


def described(found: Figures) -> dict[str, Any]:
    waits = sorted(found.until_all)
    return {
        "until all know, p50, s": median(waits) if waits else None,
        "until all know, p95, s": waits[int(0.95 * (len(waits) - 1))] if waits else None,
        "until all know, longest, s": waits[-1] if waits else None,
        "until 99 % know, p50, s": median(found.until_most) if found.until_most else None,
        "publications never heard by somebody": found.missed,
        "Sync Interests a node and second": found.interests,
        "bytes a node and second": found.bytes,
        "CPU of the core, us a node and second": found.cpu_s * 1e6,
        "a newcomer knows all after, s": found.newcomer_s,
    }


def verify_us() -> float:
    """ECDSA P-256 over 1,200 bytes: what each Sync Interest costs beside the core."""
    key, portion = PrivateKey.generate(), bytes(1200)
    public, signature = PublicKey.from_spki(key.public_der), key.sign(portion)
    begun = time.process_time()
    for _ in range(VERIFICATIONS):
        assert public.verify(key.signature_type, portion, signature)
    return (time.process_time() - begun) / VERIFICATIONS * 1e6
