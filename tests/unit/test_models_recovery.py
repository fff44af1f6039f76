"""The cache of models after a bad end: leftovers beside a whole model, an index that could not be written."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from ndn_infer.models import convert, store
from ndn_infer.models.store import find, prepare
from tests.unit.test_models_store import child, make_source, names_in, wait_for


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def leave(cache: Path) -> Path:
    """What a run killed during `--force` leaves beside the model it wanted to replace."""
    left = cache / "models" / ".tmp-killed"
    left.mkdir()
    (left / "model.safetensors").write_bytes(bytes(100))
    return left


def test_leftovers_go_although_nothing_needs_making(source: Path, cache: Path) -> None:
    model = prepare(str(source), cache)
    leave(cache)
    assert prepare(str(source), cache) == model
    assert names_in(cache) == {model.digest, "index.json", ".lock"}


def test_the_folder_of_a_run_that_still_works_stays(source: Path, cache: Path) -> None:
    model = prepare(str(source), cache)
    left = leave(cache)
    with (cache / "models" / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert prepare(str(source), cache) == model, "and nobody waits for the lock to read"
        assert left.is_dir()


def test_a_whole_model_is_served_while_another_is_being_made(tmp_path: Path, source: Path, cache: Path) -> None:
    model = prepare(str(source), cache)
    other = child(make_source(tmp_path / "other", fill=2), cache, "stall")
    try:
        wait_for(other, "hashing\n")
        assert prepare(str(source), cache) == model
        assert any(name.startswith(".tmp-") for name in names_in(cache)), "its working folder was taken away"
    finally:
        other.kill()
        other.wait(30)


def test_leftovers_on_a_read_only_disk_hurt_nobody(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepare(str(source), cache)
    left = leave(cache)

    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(cache))

    monkeypatch.setattr(store.os, "open", read_only)
    assert prepare(str(source), cache) == model
    assert left.is_dir()


def test_a_disk_that_fills_at_the_index_loses_no_model(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_index", full)
        model = prepare(str(source), cache)
    assert "index.json cannot be written" in caplog.text
    assert names_in(cache) == {model.digest, ".lock"}
    monkeypatch.setattr(convert, "build", None)  # would raise if it were called
    assert prepare(str(source), cache) == model
    assert find(str(source), cache) == model.digest
