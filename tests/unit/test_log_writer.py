"""A writer of a prompt log when its log, its disk or a record is not as it should be: it says so and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ndn_infer import ndn
from ndn_infer.config import Config, RecordingConfig
from ndn_infer.errors import BadRecord, CallError, StorageError
from ndn_infer.prompt_log.live import writer as writer_module
from ndn_infer.prompt_log.live.spool import Spool
from ndn_infer.prompt_log.live.writer import LogAway, LogWriter
from ndn_infer.prompt_log.live.writers import LogWriters
from ndn_infer.prompt_log.policy import DECODE, GATEWAY, LogPolicy
from ndn_infer.prompt_log.said import ASKED, Appended, PromptRecord
from ndn_infer.security.domain_keys import DecryptionKey
from tests.harness import role
from tests.prompt_log_kit import until

LOG = role("log")


@dataclass
class LogSaying:
    """Answers each entry as `says` does."""

    says: Callable[[bytes], Appended]
    had: list[bytes] = field(default_factory=list)

    async def append(self, entry: bytes) -> Appended:
        done = self.says(entry)
        self.had.append(entry)
        return done

    async def user_key(self, user: str) -> bytes:
        return DecryptionKey.generate().public


def writing(folder: Path, says: Callable[[bytes], Appended], *, refuse: bool = False) -> tuple[LogWriter, LogSaying]:
    client, policy = LogSaying(says), LogPolicy("public", LOG, "gateway", refuse)
    return LogWriter(policy, client, Spool(folder, 1 << 20), 5.0), client  # type: ignore[arg-type]


def taken(_: bytes) -> Appended:
    return Appended(0, 1)


@pytest.mark.parametrize("error", [BadRecord("no record"), StorageError("no room"), OSError(13, "denied")])
async def test_whatever_goes_wrong_what_waits_is_sent_later(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "FIRST_PAUSE_S", 0.001)
    wrong = [error, error]

    def at_last(entry: bytes) -> Appended:
        if wrong:
            raise wrong.pop()
        return taken(entry)

    writer, client = writing(tmp_path, at_last)
    writer.spool.put(b"entry")
    writer.go_on()
    await until(lambda: not len(writer.spool))
    assert client.had == [b"entry"] and not writer.lost
    await writer.close()


async def test_a_call_is_refused_for_what_is_wrong(tmp_path: Path) -> None:
    def fails(_: bytes) -> Appended:
        raise BadRecord("the log's answer is no record")

    writer, _ = writing(tmp_path, fails, refuse=True)
    writer.spool.put(b"entry")
    writer.go_on()
    await until(lambda: bool(writer._away))
    with pytest.raises(LogAway, match="is no record"):
        await writer.asked(PromptRecord(ASKED, "call", 0, "bob", "/by"))
    await writer.close()


async def test_what_the_log_refuses_for_good_is_set_aside(tmp_path: Path) -> None:
    def picky(entry: bytes) -> Appended:
        if entry == b"bad":
            raise CallError("no entry", code="bad-request")
        return taken(entry)

    writer, client = writing(tmp_path, picky)
    for entry in (b"one", b"bad", b"two"):
        writer.spool.put(entry)
    writer.go_on()
    await until(lambda: not len(writer.spool))
    assert client.had == [b"one", b"two"] and writer.lost == 1
    (aside,) = files_in(tmp_path)
    assert aside.read_bytes() == b"bad" and aside.suffix == ".refused"
    await writer.close()
    again = Spool(tmp_path, 1 << 20)
    again.put(b"three")
    assert again.first() == b"three" and aside.exists() and len(files_in(tmp_path)) == 2


def test_what_is_set_aside_has_a_bound(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10)
    for expected in (True, True, False):
        spool.put(b"12345")
        assert (spool.set_aside() is not None) is expected
    assert len(files_in(tmp_path)) == 2 and not len(spool)
    (tmp_path / "0000000000000009.entry").mkdir()
    with pytest.raises(StorageError):
        Spool(tmp_path, 10).done()


# ---------------------------------------------------------------- where writers' files are


def writers(folder: Path, kind: str, *policies: str) -> LogWriters:
    config = replace(Config(), recording=RecordingConfig(policies=policies))
    config = replace(config, paths=replace(config.paths, data_dir=str(folder)))
    node = SimpleNamespace(config=config, endpoint=None, validator=None)
    return LogWriters(node, kind, None, None)  # type: ignore[arg-type]


def spools(of: LogWriters) -> Path:
    return of.node.config.keys_dir.parent / "log-spool"


def files_in(folder: Path, ending: str = "*") -> list[Path]:
    return sorted(folder.glob(ending))


def policy(domain: str, writer: str) -> str:
    return f"{domain}={ndn.to_uri(LOG)}+{writer}+spool"


async def test_a_spool_that_cannot_be_opened_is_said_at_the_start(tmp_path: Path) -> None:
    made = writers(tmp_path, GATEWAY, policy("*", "gateway"))
    spools(made).parent.mkdir(parents=True)
    spools(made).write_bytes(b"in the way")
    with pytest.raises(StorageError, match="log-spool"):
        await made.start()


async def test_spools_are_opened_at_the_start_and_never_at_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = writers(tmp_path, DECODE, policy("public", "decode"), policy("a" * 32, "producers"), policy("*", "gateway"))
    threads: list[Callable[..., object]] = []
    to_thread = asyncio.to_thread

    def noted(work: Callable[..., object], *given: object) -> Awaitable[object]:
        threads.append(work)
        return to_thread(work, *given)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    await made.start()
    assert len(threads) == 2 and len(files_in(spools(made), "*.lock")) == 2
    monkeypatch.setattr(LogWriters, "_spool", None)
    assert made.writer("public") is made.writer("public") is not None
    assert made.writer("a" * 32 + ".1", "generate") is not None
    assert made.writer("b" * 32 + ".1") is None
    await made.close()
