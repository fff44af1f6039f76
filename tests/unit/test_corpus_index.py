"""The vector index against plain numpy, and its file against damage."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from ndn_infer.corpus.index import VectorIndex
from ndn_infer.errors import DamagedCache, StorageError

pytest.importorskip("usearch")

VECTORS = np.random.default_rng(7).standard_normal((200, 16)).astype(np.float32)
QUERY = VECTORS[3] + VECTORS[4]


def test_search_is_the_cosine_order() -> None:
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    cosines = unit @ (QUERY / np.linalg.norm(QUERY))
    found = VectorIndex.build(VECTORS).search(QUERY, 10)
    assert [row for row, _ in found] == list(np.argsort(-cosines)[:10])
    np.testing.assert_allclose([score for _, score in found], np.sort(cosines)[::-1][:10], atol=1e-5)


def test_the_graph_answers_like_the_exact_search(monkeypatch: pytest.MonkeyPatch) -> None:
    index = VectorIndex.build(VECTORS)
    exact = index.search(QUERY, 5)
    monkeypatch.setattr("ndn_infer.corpus.index.EXACT_ROWS", 10)
    assert [row for row, _ in index.search(QUERY, 5)] == [row for row, _ in exact]


def test_own_ids_fewer_rows_than_k_and_ties_by_id() -> None:
    index = VectorIndex.build(np.ones((3, 4), np.float32), [30, 10, 20])
    assert [row for row, _ in index.search(np.ones(4, np.float32), 9)] == [10, 20, 30]
    assert index.search(np.ones(4, np.float32), 0) == []
    assert (len(index), index.width) == (3, 4)


@pytest.mark.parametrize(
    "vectors",
    [VECTORS.astype(np.float64), VECTORS[0], VECTORS[:0], VECTORS * np.float32("nan"), np.zeros((2, 4), np.float32)],
)
def test_what_is_no_matrix_of_directions_is_refused(vectors: np.ndarray) -> None:
    with pytest.raises(ValueError):
        VectorIndex.build(vectors)


def test_wrong_queries_and_ids_are_refused() -> None:
    index = VectorIndex.build(VECTORS)
    for query in (QUERY[:5], VECTORS, QUERY * 0):
        with pytest.raises(ValueError):
            index.search(query, 1)
    for ids in ([1], [0] * len(VECTORS)):
        with pytest.raises(ValueError):
            VectorIndex.build(VECTORS, ids)


def test_a_saved_index_answers_the_same(tmp_path: Path) -> None:
    index = VectorIndex.build(VECTORS)
    index.save(tmp_path / "i.bin")
    index.save(tmp_path / "i.bin")
    assert VectorIndex.load(tmp_path / "i.bin").search(QUERY, 20) == index.search(QUERY, 20)
    assert os.listdir(tmp_path) == ["i.bin"]


def test_damage_is_named_before_usearch_reads(tmp_path: Path) -> None:
    path = tmp_path / "i.bin"
    VectorIndex.build(VECTORS).save(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for wire in (b"", whole[:20], whole[:-1], whole + b"x", bytes(flipped), b"X" + whole[1:]):
        path.write_bytes(wire)
        with pytest.raises(DamagedCache, match="i.bin is damaged"):
            VectorIndex.load(path)
    with pytest.raises(StorageError):
        VectorIndex.load(tmp_path / "none")


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "i.bin"
    VectorIndex.build(VECTORS).save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ndn_infer.files.os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        VectorIndex.build(VECTORS[:5]).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["i.bin"]
