"""The vector index against plain numpy, exact and by clusters; its file against damage and a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from ndn_infer.corpus import array_file
from ndn_infer.corpus.array_file import open_arrays, write_arrays
from ndn_infer.corpus.index import Arrays, VectorIndex, Vectors, index_arrays, original_rows
from ndn_infer.errors import DamagedCache, StorageError

DRAW = np.random.default_rng(7)
WIDTH, PASSAGES = 16, 300


def unit(vectors: np.ndarray) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


COUNTS = DRAW.integers(1, 4, PASSAGES)
BOUNDS = np.cumsum([0, *COUNTS])
CENTRES = unit(DRAW.standard_normal((12, WIDTH)))
WINDOWS = unit(CENTRES[DRAW.integers(0, 12, BOUNDS[-1])] + 0.4 * DRAW.standard_normal((BOUNDS[-1], WIDTH)))
WEIGHTS = DRAW.integers(1, 250, BOUNDS[-1]).astype(np.float32)
QUERY = unit(WINDOWS[3] + WINDOWS[4])


def expected() -> np.ndarray:
    best = np.array([max(WINDOWS[a:b] @ QUERY) for a, b in zip(BOUNDS, BOUNDS[1:], strict=False)])
    spans = zip(BOUNDS, BOUNDS[1:], strict=False)
    whole = unit(np.array([(WEIGHTS[a:b, None] * WINDOWS[a:b]).sum(axis=0) for a, b in spans]))
    return (best + whole @ QUERY) / 2


@pytest.fixture
def arrays() -> Arrays:
    return index_arrays(WINDOWS, WEIGHTS, BOUNDS)


@pytest.fixture
def clustered(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    monkeypatch.setattr("ndn_infer.corpus.index.EXACT_ROWS", 10)
    return index_arrays(WINDOWS, WEIGHTS, BOUNDS)


def test_search_is_the_order_of_scores(arrays: Arrays) -> None:
    found = VectorIndex.of(arrays).best(QUERY, 10)
    assert [place for place, _ in found] == list(np.argsort(-expected())[:10])
    np.testing.assert_allclose([score for _, score in found], np.sort(expected())[::-1][:10], atol=1e-5)
    assert len(VectorIndex.of(arrays).best(QUERY * 7, 9999)) == PASSAGES and VectorIndex.of(arrays).best(QUERY, 0) == []


def test_clusters_find_what_the_exact_search_finds(clustered: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    index = VectorIndex.of(clustered)
    assert index.windows.dtype == np.int8 and len(index.clusters) == int(np.sqrt(len(WINDOWS)))
    found = index.best(QUERY, 10)
    assert len({place for place, _ in found} & set(np.argsort(-expected())[:10])) >= 9
    np.testing.assert_allclose([score for _, score in found], expected()[[place for place, _ in found]], atol=0.01)
    monkeypatch.setattr("ndn_infer.corpus.index.PROBES", 3)
    few = index.best(QUERY, 5)
    assert few[0][0] == found[0][0] and len(few) == 5


def test_rows_come_back_and_clusters_serve_again(arrays: Arrays, clustered: Arrays) -> None:
    rows = np.array([5, 0, 77])
    assert (original_rows(arrays, rows) == WINDOWS[rows]).all()
    np.testing.assert_allclose(original_rows(clustered, rows), WINDOWS[rows], atol=0.005)
    again = index_arrays(WINDOWS[:-1], WEIGHTS, np.append(BOUNDS[:-1], len(WINDOWS) - 1), clustered["clusters"])
    assert again["clusters"] is clustered["clusters"]


def test_equal_scores_are_in_order_of_their_places() -> None:
    same = unit(np.ones((3, 4)))
    index = VectorIndex.of(index_arrays(same, np.ones(3, np.float32), np.arange(4)))
    assert [place for place, _ in index.best(same[0], 9)] == [0, 1, 2]


@pytest.mark.parametrize("query", [QUERY[:5], WINDOWS, QUERY * 0, QUERY * np.float32("nan"), QUERY.astype(np.float64)])
def test_what_is_no_direction_is_refused(query: Vectors, arrays: Arrays) -> None:
    with pytest.raises(ValueError):
        VectorIndex.of(arrays).best(query, 1)


@pytest.mark.parametrize(
    ("name", "value"), [("bounds", 9), ("order", -1), ("place", 10_000), ("cluster_bounds", 10_000), ("windows", None)]
)
def test_places_that_are_none_are_damage(name: str, value: int | None, clustered: Arrays) -> None:
    if value is None:
        del clustered[name]
    else:
        clustered[name] = clustered[name].copy()
        clustered[name][-1] = value
    with pytest.raises(DamagedCache):
        VectorIndex.of(clustered)


def test_a_written_index_answers_the_same_from_its_file(clustered: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "i.bin"
    write_arrays(path, {"a": 1}, clustered)
    write_arrays(path, {"a": 1}, clustered)
    facts, arrays = open_arrays(path)
    assert facts == {"a": 1} and isinstance(arrays["windows"], np.memmap)
    assert VectorIndex.of(arrays).best(QUERY, 20) == VectorIndex.of(clustered).best(QUERY, 20)
    assert os.listdir(tmp_path) == ["i.bin"]


def test_damage_of_the_file_is_named(arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "i.bin"
    write_arrays(path, {}, arrays)
    whole = path.read_bytes()
    places = [0, 10, 20, 60, len(whole) // 3, len(whole) // 2]
    flips = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places]
    for wire in (b"", whole[:20], whole[:200], whole[: len(whole) // 2], *flips):
        path.write_bytes(wire)
        with pytest.raises(DamagedCache, match="i.bin is damaged"):
            open_arrays(path)
    with pytest.raises(StorageError):
        open_arrays(tmp_path / "none")


def test_large_arrays_are_opened_without_reading_them(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_file, "CHECKED", 64)
    path = tmp_path / "i.bin"
    write_arrays(path, {}, arrays)
    wire = bytearray(path.read_bytes())
    wire[len(wire) // 3] ^= 1
    path.write_bytes(wire)
    assert len(VectorIndex.of(open_arrays(path)[1]).best(QUERY, 3)) == 3


def test_a_full_disk_leaves_the_old_file_and_no_litter(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "i.bin"
    write_arrays(path, {}, arrays)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ndn_infer.corpus.array_file.os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_arrays(path, {}, {"bounds": BOUNDS})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["i.bin"]
