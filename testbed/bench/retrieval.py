"""Retrieval: what each ranking finds, and what an index of a million passages costs.

Owns: the command. Must not know: how either is measured (retrieval_quality.py, retrieval_scale.py).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ndn_infer.config import Config
from ndn_infer.console.progress import ProgressLine
from ndn_infer.testbed.bench.mixed_corpus import write_mixed_corpus
from ndn_infer.testbed.bench.retrieval_quality import QUESTIONS, TOP, Quality, load_questions, measured
from ndn_infer.testbed.bench.retrieval_scale import measured_scale, synthetic, usearch_compared, usearch_index


def run(options: argparse.Namespace, config: Config) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        return _scale(options, Path(scratch)) if options.passages else _quality(options, config, Path(scratch))


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
    with ProgressLine() as line:
        # the cache is kept: another run embeds nothing
        progress = partial(line, "embedding")
        quality = measured(folder, questions, model.path, config.cache_dir / "bench-retrieval", progress)
    _print(quality, len(questions))
    print(json.dumps({"bench": "retrieval", "questions": len(questions), **asdict(quality)}))
    return 0


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
        document["usearch"] = usearch = usearch_compared(*synthetic(options.passages))
        print(f"  usearch (HNSW, 8 bits): {', '.join(f'{name} {value:.3f}' for name, value in usearch.items())}")
    print(json.dumps(document))
    return 0
