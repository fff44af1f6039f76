"""Retrieval: what each ranking finds, what an index of a million passages costs, what a build that is killed loses.

Owns: the command. Must not know: how any of it is measured (retrieval_quality.py, _scale.py, _peers.py, _resume.py).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from ndn_infer.config import Config
from ndn_infer.console.progress import ProgressLine
from ndn_infer.corpus.index import Vectors
from ndn_infer.testbed.bench.mixed_corpus import write_mixed_corpus
from ndn_infer.testbed.bench.retrieval_peers import TOP as PEERS_TOP
from ndn_infer.testbed.bench.retrieval_peers import side_by_side, usearch_index
from ndn_infer.testbed.bench.retrieval_quality import (
    QUESTIONS,
    TOP,
    Quality,
    load_questions,
    measured,
    window_vectors,
)
from ndn_infer.testbed.bench.retrieval_resume import measured_resume
from ndn_infer.testbed.bench.retrieval_scale import measured_scale, synthetic

RESUMED: Final = 10_000
"""Passages of --resume."""


def run(options: argparse.Namespace, config: Config) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        if options.resume:
            return _resume(options, config, Path(scratch))
        return _scale(options, Path(scratch)) if options.passages else _quality(options, config, Path(scratch))


def _resume(options: argparse.Namespace, config: Config, scratch: Path) -> int:
    from ndn_infer.local.prepare import prepared

    done = measured_resume(options.passages or RESUMED, prepared(config, config.ask.embedder).path, scratch)
    print(
        f"{done.passages} passages in {done.files} files, {done.texts} texts: killed at {done.killed_at} after "
        f"{done.first_s:.0f} s, resumed and done {done.second_s:.0f} s later; {done.twice} embedded twice"
    )
    print(
        f"  opened again in {done.open_s:.1f} s; a file changed: {done.changed_s:.1f} s, {done.changed_texts} embedded"
    )
    print(json.dumps({"bench": "retrieval", **asdict(done)}))
    return 0


def _quality(options: argparse.Namespace, config: Config, scratch: Path) -> int:
    from ndn_infer.local.prepare import prepared

    if (options.corpus is None) != (options.questions is None):
        print("error: --corpus and --questions go together")
        return 2
    folder = options.corpus
    if folder is None:
        folder = scratch / "mixed"
        folder.mkdir()
        write_mixed_corpus(folder)
    model = prepared(config, config.ask.embedder)
    questions = load_questions(options.questions or QUESTIONS)
    cache = config.cache_dir / "bench-retrieval"
    with ProgressLine() as line:
        # the cache is kept: another run embeds nothing
        progress = partial(line, "embedding")
        quality = measured(folder, questions, model.path, cache, progress)
    _print(quality, len(questions))
    document = {"bench": "retrieval", "questions": len(questions), **asdict(quality)}
    if options.peers:
        document["peers"] = _peers(*window_vectors(folder, questions, model.path, cache), scratch)
    print(json.dumps(document))
    return 0


def _peers(vectors: Vectors, queries: Vectors, scratch: Path) -> dict[str, dict[str, float]]:
    sides = side_by_side(vectors, queries, scratch)
    print(f"{len(vectors)} vectors, {len(queries)} questions, the first {PEERS_TOP}")
    for name, side in sides.items():
        print(f"  {name:9} {', '.join(f'{field} {value:.3f}' for field, value in side.items())}")
    return sides


def _print(quality: Quality, questions: int) -> None:
    formats = ", ".join(f"{count} {suffix}" for suffix, count in sorted(quality.formats.items()))
    print(f"{questions} questions, {quality.passages} passages ({formats})")
    for question in quality.unanswerable:
        print(f"  no passage answers: {question}")
    for ranking, hits in quality.hits.items():
        print(f"  {ranking:8} {hits:3} of {questions} answered in the first {TOP}")
    for question in quality.missed["rerank"]:
        print(f"  missed by rerank: {question}")


def _scale(options: argparse.Namespace, scratch: Path) -> int:
    compared = options.peers and options.full
    if compared:
        usearch_index()  # before minutes of building
    scale = measured_scale(options.passages, scratch)
    print(
        f"{scale.passages} passages: built in {scale.build_s:.1f} s, written in {scale.write_s:.1f} s, "
        f"{scale.file_mb:.0f} MB on disk, opened in {scale.open_s:.2f} s"
    )
    print(f"  memory: {scale.build_peak_mb:.0f} MB while building, {scale.serving_mb:.0f} MB mapped after the searches")
    print(f"  lookup: p50 {scale.p50_ms:.1f} ms, p99 {scale.p99_ms:.1f} ms; recall {scale.recall:.3f} of exact search")
    document = {"bench": "retrieval", **asdict(scale)}
    if compared:
        document["peers"] = _peers(*synthetic(options.passages), scratch)
    print(json.dumps(document))
    return 0
