"""A corpus with a small hashing embedder: digest, cache, races, damage, scores."""

from __future__ import annotations

import os
import re
import shutil
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndn_infer.corpus.array_file import open_arrays, write_arrays
from ndn_infer.corpus.build import Embedder
from ndn_infer.corpus.corpus import INDEX_FILE, Corpus, corpus_digest
from ndn_infer.corpus.index import Vectors
from ndn_infer.corpus.late import TokenIndex, TokenVectors
from ndn_infer.corpus.ranking import BY_VECTORS, BY_WORDS, RANKINGS, IndexQuery
from ndn_infer.corpus.windows import WINDOW_CHARS, windows
from ndn_infer.errors import ModelError, StorageError
from tests.unit.test_domain_secrecy import calm_z

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

    def tokens(self, texts: list[str]) -> TokenVectors:
        """A word's vector says which it is; its id is its bucket."""
        self.texts += len(texts)
        words = [["", *re.findall(r"\w+", text.lower())] for text in texts]
        ids = [zlib.crc32(word.encode()) % WIDTH for of_text in words for word in of_text]
        bounds = np.cumsum([0, *map(len, words)])
        return TokenVectors(bounds, np.array(ids, np.int32), np.eye(WIDTH, dtype=np.float32)[ids])


def query(text: str) -> IndexQuery:
    return IndexQuery(text, BagOfWords()([text])[0], BagOfWords().tokens([text]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "texts"
    place.mkdir()
    (place / "sea.md").write_text("# Sea\nWhales swim in the ocean.\n\n# Land\nHorses run over the meadow.\n")
    (place / "sky.txt").write_text("Eagles fly above the mountains.")
    return place


def opened(folder: Path, cache: Path, bag: BagOfWords | None = None, **how: Any) -> Corpus:
    bag = bag or BagOfWords()
    return Corpus.open(folder, cache, embedder=Embedder(bag, bag.tokens), embedder_id="bag", **how)


def indexes(cache: Path) -> list[str]:
    return [name for name in os.listdir(cache / "corpora") if len(name) == 64]


@pytest.mark.parametrize("ranking", RANKINGS)
def test_lookup_finds_and_filters(ranking: str, folder: Path, tmp_path: Path) -> None:
    corpus = opened(folder, tmp_path / "cache", ranking=ranking)
    hits = corpus.lookup(query("whales in the ocean"), 3)
    assert hits[0].passage.title == "Sea" and len(hits) == (1 if ranking == "words" else 3)
    assert [hit.rank for hit in hits] == sorted((hit.rank for hit in hits), reverse=True)
    near = sorted(hits, key=lambda hit: -hit.score)[0]
    assert corpus.lookup(query("whales in the ocean"), 3, min_score=near.score) == [near] == hits[:1]
    assert corpus.lookup(query("whales"), 0) == []
    assert ranking == "words" or len(corpus.lookup(query("whales"), 99)) == len(corpus.passages) == 3
    assert corpus.ranking == ranking


def test_rankings_are_different_corpora_and_auto_is_one_of_them(folder: Path, tmp_path: Path) -> None:
    digests = {opened(folder, tmp_path, ranking=ranking).digest for ranking in RANKINGS}
    assert len(digests) == 4 and opened(folder, tmp_path, ranking="auto").ranking == "rerank"
    with pytest.raises(ValueError, match="rankings are"):
        opened(folder, tmp_path, ranking="best")


def test_late_interaction_prefers_the_passage_with_the_rare_word(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.txt").write_text(f"the birds of the lake are many, number {number}")
    (folder / "z.txt").write_text(" ".join(["lake"] * 20) + " heron")
    assert opened(folder, tmp_path, ranking="rerank").lookup(query("the heron"), 1)[0].passage.source == "z.txt"
    assert opened(folder, tmp_path, ranking="words").lookup(query("the heron"), 9)[0].passage.source == "z.txt"
    assert opened(folder, tmp_path, ranking="words").lookup(query("zebra"), 9) == []


def test_the_score_is_the_mean_of_passage_and_best_window(folder: Path, tmp_path: Path) -> None:
    (folder / "long.txt").write_text(" ".join(f"Filler sentence number {n} tells nothing." for n in range(15)))
    corpus = opened(folder, tmp_path / "cache")
    asked = query("sentence number 14").vector
    assert len(corpus.indexes.vectors.windows) > len(corpus.passages)

    def cosine(other: Vectors) -> float:
        return float(asked @ other / np.linalg.norm(asked) / np.linalg.norm(other))

    def expected(title: str, text: str) -> float:
        parts = [f"{title}\n{part}" for part in windows(text)]
        vectors = [query(part).vector for part in parts]
        whole = sum(len(part) * vector / np.linalg.norm(vector) for part, vector in zip(parts, vectors, strict=True))
        return (cosine(np.asarray(whole)) + max(map(cosine, vectors))) / 2

    wanted = {p: expected(p.title, p.text) for p in corpus.passages}
    hits = corpus.lookup(query("sentence number 14"), 9)
    assert [hit.passage for hit in hits] == sorted(wanted, key=lambda p: -wanted[p])
    np.testing.assert_allclose([hit.score for hit in hits], [wanted[hit.passage] for hit in hits], atol=1e-5)


def test_many_windows_of_one_passage_do_not_crowd_out_the_next(folder: Path, tmp_path: Path) -> None:
    (folder / "whales.txt").write_text(" ".join(f"Whales whales {'and so on ' * 12} {n}." for n in range(6)))
    corpus = opened(folder, tmp_path / "cache")
    assert len({hit.passage for hit in corpus.lookup(query("whales"), 2)}) == 2
    assert len(corpus.lookup(query("whales"), 1)) == 1


@pytest.mark.parametrize("ranking", ["vectors", "rerank"])
def test_the_second_open_embeds_nothing_and_answers_the_same(ranking: str, folder: Path, tmp_path: Path) -> None:
    bag, steps = BagOfWords(), []
    embedder = Embedder(bag, bag.tokens, lambda done, total: steps.append((done, total)))
    first = Corpus.open(folder, tmp_path, embedder=embedder, embedder_id="bag", ranking=ranking)
    seen = bag.texts
    again = opened(folder, tmp_path, bag, ranking=ranking)
    assert seen == bag.texts == steps[-1][0] == steps[-1][1]
    assert again.lookup(query("eagles"), 3) == first.lookup(query("eagles"), 3)
    assert indexes(tmp_path) == [first.digest]


@pytest.mark.parametrize("ranking", ["vectors", "rerank"])
def test_only_what_changed_is_embedded_and_what_is_gone_goes(ranking: str, folder: Path, tmp_path: Path) -> None:
    bag = BagOfWords()
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"Bird number {number} sings.")
    opened(folder, tmp_path, bag, ranking=ranking)
    seen = bag.texts
    (folder / "3.txt").write_text("Bird number three is silent.")
    (folder / "5.txt").unlink()
    changed = opened(folder, tmp_path, bag, ranking=ranking)
    assert bag.texts == seen + 1 and indexes(tmp_path) == [changed.digest]
    whole = opened(folder, tmp_path / "anew", ranking=ranking)
    for question in ("bird three silent", "horses meadow", "number 17"):
        found, wanted = changed.lookup(query(question), 25), whole.lookup(query(question), 25)
        assert [hit.passage for hit in found[:2]] == [hit.passage for hit in wanted[:2]]
        scores = {hit.passage: hit.score for hit in found}
        np.testing.assert_allclose([scores[hit.passage] for hit in wanted], [hit.score for hit in wanted], atol=1e-5)
    assert "5.txt" not in {hit.passage.source for hit in changed.lookup(query("bird number 5 sings"), 25)}


def test_rankings_in_turn_embed_each_window_once_with_tokens_and_once_without(folder: Path, tmp_path: Path) -> None:
    bag = BagOfWords()
    for _ in range(2):
        digests = {opened(folder, tmp_path, bag, ranking=ranking).digest for ranking in ("vectors", "rerank")}
    assert bag.texts == 2 * 3 and {*indexes(tmp_path)} == digests


def test_an_index_stays_while_another_folder_is_the_same_corpus(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    first = opened(folder, tmp_path)
    assert opened(moved, tmp_path).digest == first.digest
    (moved / "sky.txt").write_text("Eagles fly above the hills.")
    second = opened(moved, tmp_path)
    assert sorted(indexes(tmp_path)) == sorted([first.digest, second.digest])


@pytest.mark.parametrize("ranking", ["vectors", "rerank"])
def test_an_interrupted_build_goes_on_where_it_was(
    ranking: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ndn_infer.corpus.build.BATCH", 8)
    monkeypatch.setattr("ndn_infer.corpus.build._BASIS_TEXTS", 8)
    for number in range(60):
        (folder / f"{number:02}.txt").write_text(f"Bird number {number} sings of {number * 7} things.")
    bag, whole = BagOfWords(), BagOfWords()

    def interrupted(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedder = Embedder(bag, bag.tokens, interrupted)
        Corpus.open(folder, tmp_path, embedder=embedder, embedder_id="bag", ranking=ranking)
    (journal,) = (tmp_path / "corpora" / "folders").glob("*.journal")
    journal.write_bytes(journal.read_bytes() + b"cut off")
    assert 30 <= bag.texts <= 60
    corpus, wanted = (
        opened(folder, tmp_path, bag, ranking=ranking),
        opened(folder, tmp_path / "anew", whole, ranking=ranking),
    )
    assert bag.texts == whole.texts and not journal.exists()
    assert corpus.lookup(query("bird 17 sings"), 5) == wanted.lookup(query("bird 17 sings"), 5)


def test_the_digest_is_of_content_and_embedder_only(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    first, second = opened(folder, tmp_path / "a"), opened(moved, tmp_path / "b")
    assert first.digest == second.digest and re.fullmatch(r"[0-9a-f]{64}", first.digest)
    assert corpus_digest(first.passages, "other", "vectors") != first.digest
    assert corpus_digest(first.passages[:2], "bag", "vectors") != first.digest
    (moved / "sky.txt").write_text("Eagles fly above the hills.")
    assert opened(moved, tmp_path / "b").digest != first.digest


def test_a_damaged_or_foreign_index_is_made_again(folder: Path, tmp_path: Path) -> None:
    digest = opened(folder, tmp_path).digest
    path = tmp_path / "corpora" / digest / INDEX_FILE
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    moved = tmp_path / "more"
    shutil.copytree(folder, moved)
    (moved / "more.txt").write_text("One more.")
    foreign = (tmp_path / "corpora" / opened(moved, tmp_path).digest / INDEX_FILE).read_bytes()
    for wire in (whole[:-300], foreign, bytes(flipped), b"", whole[:50], b"X" + whole[1:]):
        path.write_bytes(wire)
        bag = BagOfWords()
        corpus = opened(folder, tmp_path, bag)
        assert (bag.texts or wire is foreign) and corpus.lookup(query("horses meadow"), 1)[0].passage.title == "Land"


@pytest.mark.parametrize(("at", "value"), [(0, 1), (1, 10_000), (-1, 10_000), (None, 0)])
def test_places_of_tokens_that_are_none_are_damage(at: int | None, value: int, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "corpora" / opened(folder, tmp_path, ranking="rerank").digest / INDEX_FILE
    facts, arrays = open_arrays(path)
    bounds = np.array(arrays["token_bounds"])
    if at is None:
        bounds = bounds[:-1]
    else:
        bounds[at] = value
    write_arrays(path, facts, {**arrays, "token_bounds": bounds})
    bag = BagOfWords()
    opened(folder, tmp_path, bag, ranking="rerank")
    assert bag.texts == 3


def test_partial_files_that_were_left_long_ago_go(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "corpora" / opened(folder, tmp_path).digest
    fresh, old = place / f".{INDEX_FILE}.1.partial", place / f".{INDEX_FILE}.2.partial"
    fresh.touch()
    old.touch()
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    opened(folder, tmp_path)
    assert sorted(os.listdir(place)) == [fresh.name, INDEX_FILE]


def test_several_openers_at_once_all_get_a_corpus(folder: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(opened, folder, tmp_path) for _ in range(16)]
        answers = [task.result().lookup(query("eagles"), 3) for task in tasks]
    assert all(answer == answers[0] for answer in answers)
    (name,) = indexes(tmp_path)
    assert os.listdir(tmp_path / "corpora" / name) == [INDEX_FILE]


def test_a_cache_that_cannot_be_written_is_a_storage_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot use the cache folder"):
        opened(folder, tmp_path / "file")


@pytest.mark.parametrize(
    "answer", [np.ones((1, 4)), np.ones(4), np.zeros((3, 4)), np.full((3, 4), np.inf), np.ones((3, 0))]
)
def test_an_embedder_that_answers_nonsense_is_named(answer: Vectors, folder: Path, tmp_path: Path) -> None:
    embedder = Embedder(lambda _: answer.astype(np.float32))
    with pytest.raises(ModelError, match="the embedder answered"):
        Corpus.open(folder, tmp_path, embedder=embedder, embedder_id="bag")


def test_windows_cover_the_text() -> None:
    text = "First one.  Second\none! " + "x" * 400 + "\n\nLast: end"
    parts = windows(text)
    assert " ".join(parts) == " ".join(text.split())
    assert len(parts) == 3 and all(len(part) <= WINDOW_CHARS or " " not in part for part in parts)
    assert windows("") == [""]


# ------------------------------------------------------------ what a lookup looks at


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """600 passages of one length; the first 300 words that questions may have stand in some of them."""
    folder = tmp_path_factory.mktemp("many")
    draw = np.random.default_rng(3)
    for number in range(600):
        words = [f"word{word:03}" for word in draw.integers(0, 300, 24)]
        (folder / f"{number:03}.txt").write_text(" ".join(words))
    return opened(folder, tmp_path_factory.mktemp("cache"), ranking="rerank")


def questions(first: int) -> list[IndexQuery]:
    """Of five words each, of one length; from 300 on words that are in no passage."""
    return [query(" ".join(f"word{first + (5 * n + i) % 300:03}" for i in range(5))) for n in range(60)]


def test_as_many_passages_are_compared_for_any_question(many: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    scores = TokenIndex.scores

    def counted(self: TokenIndex, question: TokenVectors, rows: Sequence[int]) -> Any:
        looked.append(len(rows))
        return scores(self, question, rows)

    monkeypatch.setattr(TokenIndex, "scores", counted)
    assert many.indexes.words is not None
    for first, in_corpus in ((0, True), (300, False)):
        for asked in questions(first):
            assert bool(many.indexes.words.best(asked.text, 5)) == in_corpus
            assert len(many.lookup(asked, 5)) == 5
    assert set(looked) == {BY_VECTORS + BY_WORDS}, "one window each"


def test_the_time_of_a_lookup_does_not_tell_whether_the_corpus_has_the_words(many: Corpus) -> None:
    """Mann-Whitney, as in test_domain_secrecy.py: six standard deviations of the best of five tries."""
    known, unknown = questions(0), questions(300)
    assert calm_z(lambda n: many.lookup(known[n % 60], 5), lambda n: many.lookup(unknown[n % 60], 5), 60) < 6
