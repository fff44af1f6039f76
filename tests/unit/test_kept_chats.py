"""Files of conversations: what is read is what was kept, the newest, or nothing; damage of any kind is noticed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import StorageError, UsageError
from ndn_infer.library.kept_chats import MOST_VERSION, KeptChats

BASE = ndn.from_uri("/n/home/pc/user/chat/public/trip")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> KeptChats:
    return KeptChats(tmp_path_factory.mktemp("kept"), 1000)


def anew(kept: KeptChats, version: int, content: bytes) -> Path:
    kept._path(BASE).unlink(missing_ok=True)
    return kept.keep(BASE, version, content)


@settings(max_examples=60)
@given(version=st.integers(0, MOST_VERSION), content=st.binary(max_size=60), data=st.data())
def test_damage_is_noticed(kept: KeptChats, version: int, content: bytes, data: st.DataObject) -> None:
    path = anew(kept, version, content)
    assert kept.find(BASE) == (version, content)
    raw = path.read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1), "at")
    damaged = data.draw(
        st.sampled_from(
            [raw[:at], raw[at + 1 :], raw[:at] + b"7" + raw[at:], raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]]
        )
    )
    path.write_bytes(damaged)
    assert kept.find(BASE) is None


@settings(max_examples=60)
@given(raw=st.binary(max_size=200))
def test_any_file_is_read(kept: KeptChats, raw: bytes) -> None:
    anew(kept, 1, b"").write_bytes(raw)
    assert kept.find(BASE) is None


@pytest.mark.parametrize("version", [b"99999999999999999999", b"18446744073709551616", b"-1", b"1e3", b"", b"01"])
def test_a_version_is_one(kept: KeptChats, version: bytes) -> None:
    path = anew(kept, 1, b"a\nb")
    path.write_bytes(path.read_bytes().replace(b"\n1\n", b"\n" + version + b"\n", 1))
    assert kept.find(BASE) is None


def test_an_older_state_never_takes_the_place_of_a_newer(kept: KeptChats) -> None:
    anew(kept, 2, b"new")
    with pytest.raises(UsageError, match="newer"):
        kept.keep(BASE, 1, b"old")
    kept.drop(BASE, 1)
    assert kept.find(BASE) == (2, b"new")
    kept.drop(BASE, 2)
    assert kept.find(BASE) is None


def test_of_many_at_once_the_newest_stays(kept: KeptChats) -> None:
    def keep(version: int) -> None:
        try:
            kept.keep(BASE, version, b"%d" % version)
        except UsageError:
            kept.drop(BASE, version)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(keep, [3, 9, 1, 8, 2, 7, 10, 4]))
    assert kept.find(BASE) == (10, b"10")


def test_what_others_can_read_is_called_what_it_is(kept: KeptChats) -> None:
    anew(kept, 1, b"words").chmod(0o644)
    with pytest.raises(StorageError, match="^conversation .* can be read") as error:
        kept.find(BASE)
    assert "key" not in error.value.hint
