"""Files with keys: read by their owner alone. Texts of users as paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndn_infer.errors import StorageError, UsageError
from ndn_infer.files import path_of, read_private, write_at_once


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
