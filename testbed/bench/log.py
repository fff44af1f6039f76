"""What a prompt log costs: a million leaves, proofs out of them, and whole records from sealing to the disk.

The tree: leaves appended in batches, tiles and a signed checkpoint of each batch written to the store as a log does,
then the book opened again and proofs made for leaves drawn at random. Records: sealed by a writer, kept as entries,
too. Owns: sizes, the figures. Docs: docs/log.md.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.config import Config
from ndn_infer.prompt_log.entries import LeafEntry, SealedEntry, seal
from ndn_infer.prompt_log.live.book import LogBook
from ndn_infer.prompt_log.receipt import InclusionProof, receipt_of, verify_receipt
from ndn_infer.prompt_log.said import ASKED, PromptRecord
from ndn_infer.security.crypto import PrivateKey, PublicKey, Signer
from ndn_infer.security.domain_keys import DecryptionKey
from ndn_infer.storage.disk import DiskStore
from ndn_infer.testbed.bench.report import print_report

NET: Final = ndn.from_uri("/ndn-infer/local")
LOG: Final = ndn.from_uri("/ndn-infer/local/home/n1/log")
BATCH: Final = 256
PROOFS: Final = 1000
RECORDS: Final = 5000
PROMPT: Final = "What is the capital of France, and who looks after its lighthouses in a storm? " * 10


def run(options: argparse.Namespace, config: Config) -> int:
    leaves = 50_000 if options.quick else 1_000_000
    key = PrivateKey.generate()
    signer = Signer.of(key, LOG, LOG + ndn.from_uri("/KEY/k/self") + ndn.version(1))
    with TemporaryDirectory(prefix="bench-log-") as folder:
        figures = _tree(Path(folder) / "tree", signer, leaves)
        figures |= _records(Path(folder) / "records", signer, RECORDS // (10 if options.quick else 1))
    print_report("log", figures, {}, {})
    return 0


def _tree(path: Path, signer: Signer, leaves: int) -> dict[str, float]:
    store = DiskStore(path, 4 << 30)
    book, blank = LogBook(store, NET, signer), SealedEntry(bytes(16), bytes(32), bytes(16), bytes(113))
    began, first = time.perf_counter(), time.process_time()
    durable = None
    for at in range(0, leaves, BATCH):
        batch = [
            LeafEntry(sealed=SealedEntry(bytes(16), number.to_bytes(32, "big"), blank.sealed, blank.wrapped))
            for number in range(at, min(at + BATCH, leaves))
        ]
        _, durable = book.add(batch, keep=False)
        durable.result()
    wall, cpu, root = time.perf_counter() - began, time.process_time() - first, book.tree.root()
    store.close()
    reopened = time.perf_counter()
    store = DiskStore(path, 4 << 30)
    book = LogBook(store, NET, signer)
    assert book.tree.root() == root
    figures = {
        "leaves": leaves, "tree_appends_per_s": leaves / wall, "tree_cpu_us_per_leaf": 1e6 * cpu / leaves,
        "open_s": time.perf_counter() - reopened, "store_mb": path.stat().st_size / 1e6,
    }  # fmt: skip
    figures |= _proofs(book, PublicKey.from_spki(signer.public_der), leaves)
    store.close()
    return figures


def _proofs(book: LogBook, key: PublicKey, leaves: int) -> dict[str, float]:
    draw, made_ms, verified_ms, sizes, hashes = random.Random(7), [], [], [], []
    checkpoint = book.checkpoint
    assert checkpoint is not None
    blank = SealedEntry(bytes(16), bytes(32), bytes(16), bytes(113))
    for _ in range(PROOFS):
        index = draw.randrange(leaves)
        leaf = SealedEntry(bytes(16), index.to_bytes(32, "big"), blank.sealed, blank.wrapped).leaf()
        began = time.perf_counter()
        path = book.tree.inclusion(index, leaves)
        receipt = receipt_of(checkpoint.signed(), checkpoint.signature, InclusionProof(leaves, index, tuple(path)))
        there = time.perf_counter()
        verify_receipt(receipt, leaf, key)
        verified_ms.append(1000 * (time.perf_counter() - there))
        made_ms.append(1000 * (there - began))
        sizes.append(len(receipt))
        hashes.append(len(path))
    consistent_ms, proof = [], []
    for _ in range(PROOFS // 10):
        old = draw.randrange(1, leaves)
        began = time.perf_counter()
        proof.append(len(book.tree.consistency(old, leaves)))
        consistent_ms.append(1000 * (time.perf_counter() - began))
    return {
        "receipt_bytes": max(sizes), "proof_hashes": max(hashes), "proof_ms_p50": statistics.median(made_ms),
        "proof_ms_p99": sorted(made_ms)[-PROOFS // 100], "verify_ms_p50": statistics.median(verified_ms),
        "consistency_hashes": max(proof), "consistency_ms_p50": statistics.median(consistent_ms),
    }  # fmt: skip


def _records(path: Path, signer: Signer, count: int) -> dict[str, float]:
    """Sealed, kept as entries, one checkpoint a batch; then one by one, each waiting for the disk."""
    store = DiskStore(path, 4 << 30)
    book, user = LogBook(store, NET, signer), DecryptionKey.generate()
    record = records.encode(PromptRecord(ASKED, "0a", 1, "alice", ndn.to_uri(LOG), text=PROMPT))
    began = time.perf_counter()
    entries = [LeafEntry(sealed=seal(record, user.public)) for _ in range(count)]
    sealed = time.perf_counter() - began
    began = time.perf_counter()
    for at in range(0, count, BATCH):
        book.add(entries[at : at + BATCH])[1].result()
    kept = time.perf_counter() - began
    single = []
    for entry in [LeafEntry(sealed=seal(record, user.public)) for _ in range(100)]:
        began = time.perf_counter()
        book.add([entry])[1].result()
        single.append(1000 * (time.perf_counter() - began))
    size = path.stat().st_size
    store.close()
    return {
        "records": count, "record_bytes": len(record), "seal_us": 1e6 * sealed / count,
        "record_appends_per_s": count / kept, "alone_ms_p50": statistics.median(single),
        "disk_bytes_per_record": size / count,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }  # fmt: skip
