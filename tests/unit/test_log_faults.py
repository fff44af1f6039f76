"""Files of a prompt log and its writers when threads meet, and after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ndn_infer import records
from ndn_infer.errors import StoreFull
from ndn_infer.prompt_log.entries import Erasure, LeafEntry, key_id, seal
from ndn_infer.prompt_log.live.book import LogBook
from ndn_infer.prompt_log.live.log import PromptLog
from ndn_infer.prompt_log.live.spool import Spool
from ndn_infer.prompt_log.live.users import UserKeys
from ndn_infer.prompt_log.said import EraseCommand
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domain_keys import DecryptionKey
from ndn_infer.security.validator import Validated
from ndn_infer.storage.disk import DiskStore
from tests.harness import NET, keychain_in, role

USER = b"u" * 16
PUBLIC = DecryptionKey.generate().public


def test_what_is_spooled_at_once_is_spooled_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1 << 20)
    entries = [f"entry {number}".encode() for number in range(50)]
    with ThreadPoolExecutor(50) as threads:
        list(threads.map(spool.put, entries))
    assert len(spool) == len(list((tmp_path / "spool").glob("*.entry"))) == 50
    again, found = Spool(tmp_path / "spool", 1 << 20), []
    while (entry := again.first()) is not None:
        found.append(entry)
        again.done()
    assert sorted(found) == sorted(entries)


# ---------------------------------------------------------------- a disk that takes no more


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return keychain_in(tmp_path / "keys", "log").signer_for(role("log"))


@contextmanager
def log_in(folder: Path, signer: Signer, most_bytes: int = 1 << 30) -> Iterator[PromptLog]:
    """Without a network: nothing here is fetched."""
    store = DiskStore(folder / "objects", most_bytes)
    try:
        yield PromptLog(LogBook(store, NET, signer), UserKeys(folder / "users"), None)  # type: ignore[arg-type]
    finally:
        store.close()


async def test_nothing_is_written_after_what_could_not_be(tmp_path: Path, signer: Signer) -> None:
    """The first batch begins with a record that the store has no room for; the second would fit."""
    large = LeafEntry(sealed=seal(bytes(300_000), PUBLIC))
    small = [LeafEntry(sealed=seal(b"small", PUBLIC)) for _ in range(256)]
    with log_in(tmp_path, signer, 200_000) as log:
        log.users.public(USER)
        async with asyncio.timeout(60):
            done = await asyncio.gather(*map(log.add, (large, *small)), return_exceptions=True)
        assert {type(one) for one in done} == {StoreFull} and log.broken
        with pytest.raises(StoreFull):
            await log._erase(EraseCommand(USER), Validated(role("log"), role("log"), ""))
        assert log.users.users() == [USER]  # nobody could have said that it is gone
    with log_in(tmp_path, signer) as log:
        assert log.book.tree.size == 0
        assert await log.add(small[0]) == 0


async def test_who_appends_is_told_whatever_fails(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(book: LogBook) -> None:
        raise RuntimeError("no signature")

    monkeypatch.setattr(LogBook, "_signed", fails)
    with log_in(tmp_path, signer) as log:
        async with asyncio.timeout(60):
            with pytest.raises(RuntimeError):
                await log.add(LeafEntry(sealed=seal(b"one", PUBLIC)))
            with pytest.raises(StoreFull):
                await log.add(LeafEntry(sealed=seal(b"two", PUBLIC)))


# ---------------------------------------------------------------- erasures


def said_of(key: bytes) -> bytes:
    return records.encode(Erasure(key, 7, "/by"))


def test_an_erasure_that_a_crash_left_unsaid_is_said_at_the_next_start(tmp_path: Path, signer: Signer) -> None:
    with log_in(tmp_path, signer) as log:
        key = key_id(log.users.public(USER))
        assert log.users.erase(USER, said_of) == key
    for _ in range(2):
        with log_in(tmp_path, signer) as log:
            entry = log.book.entry(0)
            assert log.book.tree.size == 1 and entry is not None and entry.erased == Erasure(key, 7, "/by")


def test_an_erasure_that_was_only_begun_is_finished(tmp_path: Path, signer: Signer) -> None:
    with log_in(tmp_path, signer) as log:
        key = key_id(log.users.public(USER))
    begun = tmp_path / "users" / f"{key.hex()}.unsaid"
    begun.touch(0o600)
    begun.write_bytes(said_of(key))
    with log_in(tmp_path, signer) as log:
        assert log.book.tree.size == 1 and log.users.erased(key) and not log.users.live(key)
        assert not list((tmp_path / "users").glob("*.pem")) and not begun.exists()


def test_a_key_that_was_overwritten_and_not_removed_is_gone(tmp_path: Path) -> None:
    path = tmp_path / f"{USER.hex()}.pem"
    first = UserKeys(tmp_path).public(USER)
    path.write_bytes(bytes(path.stat().st_size))
    again = UserKeys(tmp_path)
    assert not again.users() and not path.exists() and again.public(USER) != first


def test_one_of_many_who_erase_at_once_does(tmp_path: Path) -> None:
    users = UserKeys(tmp_path)
    key = key_id(users.public(USER))
    with ThreadPoolExecutor(20) as threads:
        done = list(threads.map(lambda _: users.erase(USER, said_of), range(20)))
    assert sorted(done) == [*[b""] * 19, key]
    assert (tmp_path / "erased").read_bytes() == key


@pytest.mark.parametrize("stray", [1, 5, 15])
def test_an_id_that_was_half_written_spoils_no_other(tmp_path: Path, stray: int) -> None:
    (tmp_path / "erased").write_bytes(b"k" * 16 + bytes(stray))
    users = UserKeys(tmp_path)
    key = key_id(users.public(USER))
    assert users.erase(USER, said_of) == key
    again = UserKeys(tmp_path)
    assert again.erased(key) and again.erased(b"k" * 16)
    assert (tmp_path / "erased").read_bytes() == b"k" * 16 + key
