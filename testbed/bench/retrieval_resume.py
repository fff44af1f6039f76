"""Indexing many real passages, killed in the midst of it, resumed, and one file changed: seconds, and that nothing is
embedded twice.

    python -m ndn_infer.testbed.bench.retrieval_resume FOLDER CACHE MODEL SEEN      the process that is killed

Owns: these measurements. Must not know: the network: the corpus and embedder are those of a producer, in a process of
their own. SEEN gets a line for each text before it is embedded, so that what a killed process did is counted as well.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from ndn_infer.corpus.build import BATCH, Embedder
from ndn_infer.corpus.corpus import Corpus
from ndn_infer.corpus.index import Vectors
from ndn_infer.corpus.windows import windows
from ndn_infer.errors import NdnInferError
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.library_passages import write_library

FILES: Final = 1000
_LOOK_S: Final = 0.2
_MODULE: Final = "ndn_infer.testbed.bench.retrieval_resume"


@dataclass(frozen=True, slots=True)
class Resumed:
    """`texts`: windows, each of which is embedded once. `killed_at`: how many were when the process was killed, which
    took `first_s`; the next one went on for `second_s`. `twice`: texts that were embedded again, of the batch that the
    kill cut short. A changed file took `changed_s` for `changed_texts`, and opening the index again `open_s`."""

    passages: int
    files: int
    texts: int
    killed_at: int
    first_s: float
    second_s: float
    twice: int
    open_s: float
    changed_s: float
    changed_texts: int


def measured_resume(passages: int, model: Path, scratch: Path) -> Resumed:
    """Raises NdnInferError where a process fails, or more than a batch was embedded twice."""
    folder, cache, seen = scratch / "library", scratch / "cache", scratch / "seen"
    folder.mkdir()
    found = write_library(folder, passages, min(FILES, passages))
    files = sorted(folder.iterdir())
    child = [sys.executable, "-m", _MODULE, str(folder), str(cache), str(model), str(seen)]
    seen.touch()
    began = time.perf_counter()
    with background(child, output=subprocess.DEVNULL) as process:
        killed_at = _killed(process, seen, found)
    first = time.perf_counter() - began
    second = _timed(child)
    texts = Counter(seen.read_text().split())
    twice = sum(count - 1 for count in texts.values())
    if twice > BATCH:
        raise NdnInferError(f"{twice} texts were embedded twice, and a batch has {BATCH}")
    opened, before = _timed(child), sum(texts.values())
    changed = files[len(files) // 2]
    changed.write_text(changed.read_text() + "\n\n# A new part\n\nThe lighthouse of this file was painted green.\n")
    again = _timed(child)
    more = len(seen.read_text().split()) - before
    return Resumed(found, len(files), len(texts), killed_at, first, second, twice, opened, again, more)


def _killed(child: subprocess.Popen[str], seen: Path, passages: int) -> int:
    """After about half of what there is at least: a passage has a window or more."""
    while child.poll() is None and seen.stat().st_size // 33 < passages // 2:
        time.sleep(_LOOK_S)
    if child.poll() is not None:
        raise NdnInferError(f"indexing ended with status {child.returncode} before it was killed")
    child.send_signal(signal.SIGKILL)
    child.wait()
    return seen.stat().st_size // 33


def _timed(child: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(child, check=False)
    if done.returncode:
        raise NdnInferError(f"indexing ended with status {done.returncode}")
    return time.perf_counter() - began


def main(folder: Path, cache: Path, model: Path, seen: Path) -> None:
    from ndn_infer.console.progress import ProgressLine
    from ndn_infer.engine.text_embedder import TextEmbedder

    embedder: list[TextEmbedder] = []

    def embed(texts: list[str]) -> Vectors:
        if not embedder:
            embedder.append(TextEmbedder.load(model))
        with seen.open("a") as file:
            file.writelines(hashlib.sha256(text.encode()).hexdigest()[:32] + "\n" for text in texts)
        found: Vectors = np.asarray(embedder[0].encode(texts), np.float32)
        return found

    with ProgressLine() as line:
        corpus = Corpus.open(
            folder,
            cache,
            embedder=Embedder(embed, None, partial(line, "embedding")),
            embedder_id=model.name,
            ranking="vectors",
        )
    assert len(corpus.indexes.vectors.windows) == sum(len(windows(item.text)) for item in corpus.passages)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
