"""Files with keys: read by their owner alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndn_infer.errors import StorageError
from ndn_infer.files import read_private, write_at_once


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert read_private(path, 100) is None
    write_at_once(path, b"secret")
    assert read_private(path, 100) == b"secret"
    assert read_private(path, 3) == b"sec"
    path.chmod(0o640)
    with pytest.raises(StorageError, match="0640"):
        read_private(path, 100)
