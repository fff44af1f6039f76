"""A corpus with a small hashing embedder: digest, cache, races, damage, scores."""

from __future__ import annotations

import os
import re
import shutil
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ndn_infer.corpus.corpus import INDEX_FILE, WINDOW_CHARS, Corpus, corpus_digest, windows
from ndn_infer.corpus.index import Vectors
from ndn_infer.errors import ModelError, StorageError

pytest.importorskip("usearch")

WIDTH = 64


class BagOfWords:
    """Counts words into WIDTH buckets; remembers how many texts it saw."""

    def __init__(self) -> None:
        self.texts = 0

    def __call__(self, texts: list[str]) -> Vectors:
        self.texts += len(texts)
        vectors = np.full((len(texts), WIDTH), 0.01, np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, zlib.crc32(word.encode()) % WIDTH] += 1
        return vectors


def query(text: str) -> Vectors:
    vector: Vectors = BagOfWords()([text])[0]
    return vector


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "texts"
    place.mkdir()
    (place / "sea.md").write_text("# Sea\nWhales swim in the ocean.\n\n# Land\nHorses run over the meadow.\n")
    (place / "sky.txt").write_text("Eagles fly above the mountains.")
    return place


def test_lookup_finds_and_filters(folder: Path, tmp_path: Path) -> None:
    corpus = Corpus.open(folder, tmp_path / "cache", embed=BagOfWords(), embedder_id="bag")
    hits = corpus.lookup(query("whales in the ocean"), 3)
    assert [hit.passage.title for hit in hits][0] == "Sea" and len(hits) == 3
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert corpus.lookup(query("whales in the ocean"), 3, min_score=hits[1].score + 1e-6) == hits[:1]
    assert corpus.lookup(query("whales"), 0) == []
    assert len(corpus.lookup(query("whales"), 99)) == len(corpus.passages) == 3


def test_the_score_is_the_mean_of_passage_and_best_window(folder: Path, tmp_path: Path) -> None:
    (folder / "long.txt").write_text(" ".join(f"Filler sentence number {n} tells nothing." for n in range(15)))
    corpus = Corpus.open(folder, tmp_path / "cache", embed=BagOfWords(), embedder_id="bag")
    asked = query("sentence number 14")
    assert len(corpus.owners) > len(corpus.passages)

    def cosine(text: str) -> float:
        other = query(text)
        return float(asked @ other / np.linalg.norm(asked) / np.linalg.norm(other))

    expected = {
        p: (cosine(f"{p.title}\n{p.text}") + max(cosine(f"{p.title}\n{part}") for part in windows(p.text))) / 2
        for p in corpus.passages
    }
    hits = corpus.lookup(asked, 9)
    assert [hit.passage for hit in hits] == sorted(expected, key=lambda p: -expected[p])
    np.testing.assert_allclose([hit.score for hit in hits], [expected[hit.passage] for hit in hits], atol=1e-5)


def test_many_windows_of_one_passage_do_not_crowd_out_the_next(folder: Path, tmp_path: Path) -> None:
    (folder / "whales.txt").write_text(" ".join(f"Whales whales {'and so on ' * 12} {n}." for n in range(6)))
    corpus = Corpus.open(folder, tmp_path / "cache", embed=BagOfWords(), embedder_id="bag")
    assert len({hit.passage for hit in corpus.lookup(query("whales"), 2)}) == 2
    assert len(corpus.lookup(query("whales"), 1)) == 1


def test_the_second_open_embeds_nothing_and_answers_the_same(folder: Path, tmp_path: Path) -> None:
    embed, steps = BagOfWords(), []
    opened = Corpus.open(
        folder, tmp_path, embed=embed, embedder_id="bag", progress=lambda done, total: steps.append((done, total))
    )
    seen = embed.texts
    again = Corpus.open(folder, tmp_path, embed=embed, embedder_id="bag", progress=lambda *_: pytest.fail("embedded"))
    assert seen == embed.texts == steps[-1][0] == steps[-1][1]
    assert again.lookup(query("eagles"), 3) == opened.lookup(query("eagles"), 3)
    assert os.listdir(tmp_path / "corpora") == [opened.digest]


def test_the_digest_is_of_content_and_embedder_only(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    first = Corpus.open(folder, tmp_path / "a", embed=BagOfWords(), embedder_id="bag")
    second = Corpus.open(moved, tmp_path / "b", embed=BagOfWords(), embedder_id="bag")
    assert first.digest == second.digest and re.fullmatch(r"[0-9a-f]{64}", first.digest)
    assert corpus_digest(first.passages, "other") != first.digest
    assert corpus_digest(first.passages[:2], "bag") != first.digest
    (moved / "sky.txt").write_text("Eagles fly above the hills.")
    assert Corpus.open(moved, tmp_path / "b", embed=BagOfWords(), embedder_id="bag").digest != first.digest


def test_a_damaged_or_foreign_index_is_made_again(folder: Path, tmp_path: Path) -> None:
    digest = Corpus.open(folder, tmp_path, embed=BagOfWords(), embedder_id="bag").digest
    path = tmp_path / "corpora" / digest / INDEX_FILE
    (folder / "more.txt").write_text("One more.")
    other = Corpus.open(folder, tmp_path, embed=BagOfWords(), embedder_id="bag")
    foreign = (tmp_path / "corpora" / other.digest / INDEX_FILE).read_bytes()
    (folder / "more.txt").unlink()
    for wire in (path.read_bytes()[:-3], foreign):
        path.write_bytes(wire)
        embed = BagOfWords()
        corpus = Corpus.open(folder, tmp_path, embed=embed, embedder_id="bag")
        assert embed.texts and corpus.lookup(query("horses meadow"), 1)[0].passage.title == "Land"


def test_an_interrupted_build_leaves_nothing_that_is_taken_for_an_index(folder: Path, tmp_path: Path) -> None:
    def interrupted(_: list[str]) -> Vectors:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Corpus.open(folder, tmp_path, embed=interrupted, embedder_id="bag")
    (place,) = (tmp_path / "corpora").iterdir()
    assert list(place.iterdir()) == []
    fresh, old = place / f".{INDEX_FILE}.1.partial", place / f".{INDEX_FILE}.2.partial"
    fresh.touch()
    old.touch()
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    Corpus.open(folder, tmp_path, embed=BagOfWords(), embedder_id="bag")
    assert sorted(os.listdir(place)) == [fresh.name, INDEX_FILE]


def test_several_openers_at_once_all_get_a_corpus(folder: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        opened = [pool.submit(Corpus.open, folder, tmp_path, embed=BagOfWords(), embedder_id="bag") for _ in range(16)]
        answers = [task.result().lookup(query("eagles"), 3) for task in opened]
    assert all(answer == answers[0] for answer in answers)
    (place,) = (tmp_path / "corpora").iterdir()
    assert os.listdir(place) == [INDEX_FILE]


def test_a_cache_that_cannot_be_written_is_a_storage_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot use the cache folder"):
        Corpus.open(folder, tmp_path / "file", embed=BagOfWords(), embedder_id="bag")


@pytest.mark.parametrize(
    "answer", [np.ones((1, 4)), np.ones(4), np.zeros((3, 4)), np.full((3, 4), np.inf), np.ones((3, 0))]
)
def test_an_embedder_that_answers_nonsense_is_named(answer: Vectors, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the embedder answered"):
        Corpus.open(folder, tmp_path, embed=lambda _: answer.astype(np.float32), embedder_id="bag")


def test_windows_cover_the_text() -> None:
    text = "First one.  Second\none! " + "x" * 400 + "\n\nLast: end"
    parts = windows(text)
    assert " ".join(parts) == " ".join(text.split())
    assert len(parts) == 3 and all(len(part) <= WINDOW_CHARS or " " not in part for part in parts)
    assert windows("") == [""]
