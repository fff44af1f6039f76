"""A prompt log among its writers, readers and witnesses: what is recorded stays, what is erased is gone."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ndn_infer import ndn, records
from ndn_infer.errors import BadRecord, CallError, FetchIncomplete, StorageError
from ndn_infer.prompt_log.checkpoint import CONSISTENT, Checkpoint
from ndn_infer.prompt_log.entries import LeafEntry, opened, seal
from ndn_infer.prompt_log.live.book import LogBook
from ndn_infer.prompt_log.live.log import UNKNOWN_KEY
from ndn_infer.prompt_log.live.reader import LogReader
from ndn_infer.prompt_log.live.users import UserKeys, user_of
from ndn_infer.prompt_log.live.witness import BEHIND, Witness
from ndn_infer.prompt_log.live.writer import LogAway
from ndn_infer.prompt_log.receipt import verify_receipt
from ndn_infer.prompt_log.said import ANSWERED, PromptRecord
from ndn_infer.prompt_log.tiles import Place
from ndn_infer.security.crypto import PublicKey
from ndn_infer.security.domain_keys import DecryptionKey
from ndn_infer.storage.disk import DiskStore
from tests.harness import NET, role
from tests.prompt_log_kit import LOG, MACHINE, LogWorld, RunningLog, asked, log_world, until

ALICE, BOB = "alice@example.org", "bob@example.org"
SECRET = "Alice's blood group is AB negative, she says."
LONG = "A long prompt that no Interest carries. " * 3000


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LogWorld]:
    async with log_world(tmp_path) as world:
        yield world


def clear(log: RunningLog, index: int, user: str) -> PromptRecord:
    entry, private = log.book.entry(index), log.log.users.private(user_of(LOG, user))
    assert entry is not None and entry.sealed is not None and private is not None
    return records.decode(PromptRecord, opened(entry.sealed, private))


async def test_calls_and_answers_are_leaves_with_receipts(world: LogWorld) -> None:
    writer, reader = world.log_writer(refuse=True), await world.reader()
    async with world.log() as log:
        await writer.asked(asked(ALICE, SECRET))
        await writer.asked(asked(BOB, LONG))  # pulled by the log
        writer.answered(replace(asked(ALICE, "AB negative."), kind=ANSWERED, finish="stop"))
        await until(lambda: log.book.tree.size == 3)
        assert [clear(log, index, user).text for index, user in ((0, ALICE), (1, BOB), (2, ALICE))] == [
            SECRET, LONG, "AB negative."
        ]  # fmt: skip
        checkpoint, public = await reader.checkpoint()
        assert checkpoint.size == 3 and checkpoint.root == log.book.tree.root()
        for index in range(3):
            entry, receipt = await reader.proved(index, checkpoint)
            root, proof = verify_receipt(receipt, entry.leaf(), PublicKey.from_spki(public))
            assert (root.root, proof.index) == (checkpoint.root, index)
        with pytest.raises(BadRecord):
            await reader.proved(2, replace(checkpoint, root=bytes(32)))
        with pytest.raises(FetchIncomplete):
            await reader.entry(3)
        wire = records.encode(seal(b"again", log.log.users.public(user_of(LOG, BOB))))
        first = await world.client().append(wire)
        assert (await world.client().append(wire)).index == first.index  # a command that was lost on its way back
        with pytest.raises(CallError) as refused:
            await world.client().append(records.encode(seal(b"x", DecryptionKey.generate().public)))
        assert refused.value.code == UNKNOWN_KEY
    await writer.close()


async def test_many_appends_at_once_are_few_batches_and_survive_a_restart(world: LogWorld) -> None:
    async with world.log() as log:
        client, key = world.client(), log.log.users.public(user_of(LOG, ALICE))
        entries = [records.encode(seal(str(number).encode(), key)) for number in range(300)]
        places = [(await done).index for done in [asyncio.ensure_future(client.append(one)) for one in entries]]
        assert sorted(places) == list(range(300))
        root = log.book.tree.root()
    async with world.log() as log:
        assert (log.book.tree.size, log.book.tree.root()) == (300, root)
        # a crash between entries and their checkpoint: they are taken into the tree
        lone = LeafEntry(sealed=seal(b"lone", key))
        name = log.book.names.entry(300)
        log.store.disk.put_all([log.book._object(name, records.encode(lone))]).result()
        again = LogBook(log.store.disk, NET, world.keychain.signer_for(LOG))
        assert again.tree.size == 301 and again.checkpoint is not None and again.checkpoint.size == 301


# ---------------------------------------------------------------- erasing


def found_in(folder: Path, *needles: bytes) -> list[tuple[Path, bytes]]:
    """Files that hold one of these, plainly, in hex, or in any of base64's three places."""
    assert all(len(needle) >= 16 for needle in needles)  # shorter ones are found by chance
    forms = {needle: needle for needle in needles}
    for needle in needles:
        forms[needle.hex().encode()] = needle
        for shift in range(3):
            text = base64.b64encode(bytes(shift) + needle)
            forms[text[4 : len(text) // 4 * 4 - 4]] = needle
    paths = [path for path in folder.rglob("*") if path.is_file()]
    held = [(path, path.read_bytes()) for path in paths]
    return [
        (path, needle) for path, content in held for form, needle in forms.items()
        if form in content or form in content.replace(b"\n", b"")
    ]  # fmt: skip


async def test_an_erased_user_is_nowhere(world: LogWorld, tmp_path: Path) -> None:
    """Every file of the log and its writers, write-ahead logs, a backup of the store, and the Content Store."""
    writer, reader = world.log_writer(refuse=True), await world.reader()
    backup = tmp_path / "backup"
    async with world.log() as log:
        for text, user in ((SECRET, ALICE), ("Bob asks the time.", BOB), (SECRET + " Again.", ALICE)):
            await writer.asked(asked(user, text))
        writer.spool.put(b"x")  # the spool's folder is there, and what is in it is sealed like anything else
        key = log.log.users.private(user_of(LOG, ALICE))
        assert key is not None
        number = key._key.private_numbers().private_value.to_bytes(32, "big")
        assert [needle for _, needle in found_in(world.files, number, SECRET.encode())]  # the key, before
        shutil.copytree(world.files / "log", backup, ignore=shutil.ignore_patterns("users"))
        before, _ = await reader.checkpoint()

        for who in (role("user"), role("decode")):
            with pytest.raises(CallError, match="log erasure"):
                await world.client(who).erase(ALICE)
        done = await world.client(MACHINE).erase(ALICE)
        assert done.key and not (await world.client(MACHINE).erase(ALICE)).key

        for place in (world.files, backup, tmp_path):
            assert not found_in(place, number, SECRET.encode(), ALICE.encode())
        packets = [entry.wire for entry in world.network.core.cs._plain.values()]
        assert packets and not any(SECRET.encode() in wire or number in wire for wire in packets)
        left = UserKeys(world.files / "log" / "users")
        keys = [private for user in left.users() if (private := left.private(user)) is not None]
        for index in (0, 2):
            entry, _ = await reader.proved(index, before)  # the tree still verifies
            assert entry.sealed is not None
            for private in keys:
                with pytest.raises(BadRecord):
                    opened(entry.sealed, private)
        assert clear(log, 1, BOB).text == "Bob asks the time."
        tombstone = log.book.entry(done.index)
        assert tombstone is not None and tombstone.erased is not None
        assert (tombstone.erased.user, tombstone.erased.by) == (done.key, ndn.to_uri(MACHINE))

        # who comes back has another key, though the writer remembers the old one
        writer.spool.done()
        await writer.asked(asked(ALICE, "Alice is back."))
        newest = log.book.tree.size - 1
        assert clear(log, newest, ALICE).text == "Alice is back."
        seen = await reader.checkpoint()
        for index in range(seen[0].size):
            await reader.proved(index, seen[0])
    assert not found_in(world.files, SECRET.encode())
    await writer.close()


# ---------------------------------------------------------------- witnesses


async def test_a_log_that_only_grows_is_signed_on(world: LogWorld, tmp_path: Path) -> None:
    witness, reader = Witness(tmp_path / "seen"), await world.reader()
    async with world.log() as log:
        key = log.log.users.public(b"u" * 16)
        for count in (1, 2, 300, 1):
            await fill(log, key, count)
            said, verdict = await witness.look(reader)
            assert (verdict, said.fault) == (CONSISTENT, "")
            assert records.decode(Checkpoint, said.checkpoint).size == log.book.tree.size


async def fill(log: RunningLog, key: bytes, count: int, text: bytes = b"record") -> None:
    await asyncio.gather(*(log.log.add(LeafEntry(sealed=seal(text, key))) for _ in range(count)))


@pytest.mark.parametrize("how", ["truncated", "rewritten", "behind"])
async def test_a_log_that_lost_or_changed_records_is_found(world: LogWorld, tmp_path: Path, how: str) -> None:
    witness, reader = Witness(tmp_path / "seen"), await world.reader()
    old = tmp_path / "old"
    async with world.log() as log:
        key = log.log.users.public(b"u" * 16)
        await fill(log, key, 5)
    shutil.copytree(world.files / "log", old)
    async with world.log() as log:
        await fill(log, key, 3)
        assert (await witness.look(reader))[1] == CONSISTENT
    await asyncio.sleep(1.1)  # checkpoints have whole seconds
    world.network.core.cs.erase(NET, 1 << 20)
    async with world.log(old) as log:  # a backup is put back
        reader._full.clear()
        if how == "truncated":
            signed = log.book.sign_again()
            assert signed is not None
            await asyncio.wrap_future(signed)
        elif how == "rewritten":
            await fill(log, key, 20, b"another")
        said, verdict = await witness.look(reader)
        assert verdict == {"truncated": "truncated", "rewritten": "rewritten", "behind": BEHIND}[how]
        assert said.fault == ("" if how == "behind" else verdict)
        assert records.decode(Checkpoint, said.checkpoint).size == 8  # it stands by what it saw
        if said.fault:
            for half in (said.checkpoint, said.against):  # both signed by the log: a proof for anybody
                public = (await reader.checkpoint())[1]
                records.decode(Checkpoint, half).verify(LOG, PublicKey.from_spki(public))
            await fill(log, key, 1)
            assert (await witness.look(reader))[0].fault == said.fault  # and it does not forget


async def test_a_fork_shown_to_two_readers_is_found_when_they_show_it(world: LogWorld, tmp_path: Path) -> None:
    """One reader's log goes on with one record, the other's with another; the witness was shown the first alone."""
    witness, reader = Witness(tmp_path / "seen"), await world.reader()
    async with world.log() as log:
        key = log.log.users.public(b"u" * 16)
        await fill(log, key, 4)
    shutil.copytree(world.files / "log", tmp_path / "fork")
    shown: list[tuple[Checkpoint, bytes]] = []
    for folder, text in ((None, b"for one"), (tmp_path / "fork", b"for the other")):
        async with world.log(folder) as log:
            await fill(log, key, 1, text)
            shown.append(await reader.checkpoint())
            world.network.core.cs.erase(NET, 1 << 20)
    assert shown[0][0].size == shown[1][0].size == 5
    async with world.log():
        assert (await witness.judge(reader, *shown[0]))[1] == CONSISTENT
        said, verdict = await witness.judge(reader, *shown[1])
        assert verdict == said.fault == "fork"
        assert records.decode(Checkpoint, said.against) == shown[1][0]
        strange = replace(shown[0][0], root=bytes(32))
        with pytest.raises(BadRecord):
            await witness.judge(reader, strange, shown[0][1])


class Interrupted(LogReader):
    """Before its first tile something happens."""

    happens: Callable[[], Awaitable[object]]

    @classmethod
    async def in_world(cls, world: LogWorld, happens: Callable[[], Awaitable[object]]) -> Interrupted:
        plain = await world.reader()
        reader = cls(plain.names, plain.fetcher, plain.validator, plain.hints)
        reader.happens = happens
        return reader

    async def tile(self, place: Place, size: int) -> bytes:
        await self.happens()
        return await LogReader.tile(self, place, size)


async def test_lost_packets_are_no_fork(world: LogWorld, tmp_path: Path) -> None:
    async def lost() -> None:
        raise FetchIncomplete("1 of 3 segments missing", missing=(2,))

    async def gone() -> None:
        raise FetchIncomplete("there is no tile")

    witness, reader = Witness(tmp_path / "seen"), await world.reader()
    async with world.log() as log:
        key = log.log.users.public(b"u" * 16)
        await fill(log, key, 3)
        await witness.look(reader)
        await fill(log, key, 3)
        with pytest.raises(FetchIncomplete):
            await witness.look(await Interrupted.in_world(world, lost))
        assert (await witness.look(reader))[0].fault == ""
        await fill(log, key, 3)
        assert (await witness.look(await Interrupted.in_world(world, gone)))[1] == "fork"  # the log says so itself


async def test_a_fault_found_while_another_checkpoint_is_judged_stays(world: LogWorld, tmp_path: Path) -> None:
    witness, reader = Witness(tmp_path / "seen"), await world.reader()
    async with world.log() as log:
        key = log.log.users.public(b"u" * 16)
        await fill(log, key, 4)
    shutil.copytree(world.files / "log", tmp_path / "fork")
    async with world.log(tmp_path / "fork") as log:
        await fill(log, key, 1, b"for another")
        forked = await reader.checkpoint()
        world.network.core.cs.erase(NET, 1 << 20)
    async with world.log() as log:
        await fill(log, key, 1)
        await witness.look(reader)
        await fill(log, key, 1)
        slow = await Interrupted.in_world(world, lambda: witness.judge(reader, *forked))
        said, verdict = await witness.look(slow)
        assert (said.fault, verdict) == ("fork", CONSISTENT) and witness.seen(LOG) == said


async def test_a_store_that_contradicts_itself_is_not_served(world: LogWorld) -> None:
    async with world.log() as log:
        await fill(log, log.log.users.public(b"u" * 16), 3)
        book = log.book
        log.store.disk.put_all([book._object(book.names.tile(0, 0), bytes(96), version=3)]).result()
        with pytest.raises(StorageError, match="checkpoint"):
            LogBook(log.store.disk, NET, world.keychain.signer_for(LOG))


# ---------------------------------------------------------------- a log that is away


async def test_without_its_log_a_call_is_refused(world: LogWorld) -> None:
    writer = world.log_writer(refuse=True, wait_s=0.5)
    with pytest.raises(LogAway):
        await writer.asked(asked(ALICE, SECRET))
    async with world.log():
        writer.wait_s = 30.0
        await writer.asked(asked(ALICE, SECRET))
    writer.answered(replace(asked(ALICE, "an answer that waits"), kind=ANSWERED))
    await until(lambda: len(writer.spool) == 1)
    with pytest.raises(LogAway):  # an answer waits: no further call
        await writer.asked(asked(ALICE, "more"))
    assert not found_in(world.files, SECRET.encode(), b"an answer that waits")
    async with world.log() as log:
        await until(lambda: not len(writer.spool))
        await writer.asked(asked(ALICE, "more"))
        assert [clear(log, index, ALICE).text for index in range(3)] == [SECRET, "an answer that waits", "more"]
    await writer.close()


async def test_a_log_with_other_keys_than_the_writer_knows_is_asked_again(
    world: LogWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the log's folder was made anew."""
    writer = world.log_writer(refuse=True)
    async with world.log():
        await writer.asked(asked(ALICE, SECRET))
    async with world.log(tmp_path / "other") as log:
        await writer.asked(asked(ALICE, "after"))
        assert log.book.tree.size == 1 and clear(log, 0, ALICE).text == "after"
        with pytest.raises(LogAway, match="is at most"):
            await writer.asked(asked(ALICE, "\u2603" * 2_000_000))
        public = log.log.users.public
        monkeypatch.setattr(UserKeys, "live", lambda keys, key: False)  # each key is erased before its record comes
        monkeypatch.setattr(UserKeys, "erased", lambda keys, key: True)
        assert public(user_of(LOG, ALICE))
        with pytest.raises(LogAway, match="does not keep"):
            await writer.asked(asked(ALICE, "for nobody"))
    await writer.close()


async def test_a_spool_holds_calls_until_it_is_full(world: LogWorld) -> None:
    writer = world.log_writer(refuse=False, most_bytes=8000)
    async with world.log():
        await writer.asked(asked(ALICE, "with the log"))
        await until(lambda: not len(writer.spool))
    taken = 0
    with pytest.raises(LogAway, match="spool"):
        while taken < 100:
            await writer.asked(asked(ALICE, f"call number {taken}, of many"))
            taken += 1
    assert 3 < taken < 100 and not found_in(world.files, b"call number 1, of many")
    await writer.close()  # the process ends, what waits does not
    after = world.log_writer(refuse=False)
    async with world.log() as log:
        await after.asked(asked(BOB, "after a restart"))
        await until(lambda: log.book.tree.size == taken + 2)
        assert [clear(log, 1 + number, ALICE).text for number in range(taken)] == [
            f"call number {n}, of many" for n in range(taken)
        ]
    await after.close()
    DiskStore(world.files / "log" / "objects", 1 << 30).close()
