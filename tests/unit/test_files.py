"""Files with keys: read by their owner alone. Texts of users as paths. Records and lines behind others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ndn_infer.config import Config, PathsConfig
from ndn_infer.errors import StorageError, UsageError
from ndn_infer.evidence.verdict import KnownFault
from ndn_infer.files import alone_in, append_line, append_whole, path_of, read_private, write_at_once
from ndn_infer.node.faults import FaultFile
from ndn_infer.prompt_log.checkpoint import Witnessed
from ndn_infer.prompt_log.live.witness import Witness


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert read_private(path, 100) is None
    write_at_once(path, b"secret")
    assert read_private(path, 100) == b"secret"
    assert read_private(path, 3) == b"sec"
    path.chmod(0o640)
    with pytest.raises(StorageError, match="0640"):
        read_private(path, 100)


@pytest.mark.parametrize("text", ["~no-such-user-here/p.toml", "n" * 300, "a\0b", "a" * 300 + ".toml"])
def test_a_text_that_no_path_can_be_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="is no path here") as refused:
        path_of(text)
    assert "\0" not in str(refused.value) and len(str(refused.value)) < 200


def test_a_text_is_a_path_whether_something_lies_there_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "there").write_text("")
    assert path_of("~/there").is_file() and path_of(tmp_path / "there") == tmp_path / "there"
    assert not path_of("~/none").exists() and not path_of("~/there/below").exists()


@pytest.mark.parametrize("stray", [b"", b"x", b"y" * 9000])
def test_what_was_only_begun_spoils_nothing_that_follows(tmp_path: Path, stray: bytes) -> None:
    lines, records = tmp_path / "lines", tmp_path / "records"
    for path, put, whole in ((lines, append_line, b"one\n"), (records, append_whole, b"four")):
        for before in (b"", whole):
            path.write_bytes(before + stray)
            put(path, whole)
            left = stray[: len(stray) // 4 * 4] if put is append_whole else b""
            assert path.read_bytes() == before + left + whole


def test_what_is_not_taken_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    append_line(path, b"one\n")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:2]))
    with pytest.raises(OSError, match="No space"):
        append_line(path, b"two\n")
    assert path.read_bytes() == b"one\n"


def test_a_file_in_the_place_of_a_folder_is_said_in_one_line(tmp_path: Path) -> None:
    inside = tmp_path / "made" / "too"
    with alone_in(inside):
        assert inside.stat().st_mode & 0o077 == 0
    (tmp_path / "file").write_text("")
    faults = FaultFile(Config(paths=PathsConfig(data_dir=str(tmp_path / "file"))))
    witness = Witness(tmp_path / "file" / "seen")
    for work in (
        lambda: alone_in(tmp_path / "file").__enter__(),
        lambda: faults.add(KnownFault("/a", 1, "wrong", "words")),
        lambda: witness._keep(b"", Witnessed(b"", 0, 0)),
    ):
        with pytest.raises(StorageError, match="cannot use"):
            work()
