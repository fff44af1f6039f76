"""Live streams over a real forwarder core: whose word counts, who is read, and an end in every case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ndn_infer import ndn, records
from ndn_infer.config import CallConfig, Config, FetchConfig
from ndn_infer.errors import Busy, NetworkError
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.producer import Producer
from ndn_infer.ndn.name import PROGRESS
from ndn_infer.ndn.packet import CONTENT_NACK, decode_data
from ndn_infer.ndn.tlv import DATA
from ndn_infer.records import GenerateRequest, Progress, TokenEvent
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.asking import Answered
from ndn_infer.transport.objects import live_stream, serve
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.wire import readership
from tests.harness import NET, Node, keychain_in, role

SUBJECT = ("model", "cd" * 32)
CONFIG = replace(Config(), call=replace(CallConfig(), deadline_s=5.0), fetch=replace(FetchConfig(), stream_idle_s=3.0))


class Open(NamedFunction[GenerateRequest]):
    """Opens streams; the test writes them."""

    function, role, request_type, subject = "generate", "decode", GenerateRequest, SUBJECT

    def __init__(self) -> None:
        self.streams: list[LiveStream] = []
        self.signers: list[Signer] = []

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        self.streams.append(job.open_stream())
        self.signers.append(job.signer)
        return self.streams[-1]

    async def opened(self, count: int = 1) -> LiveStream:
        await until(lambda: len(self.streams) >= count)
        return self.streams[-1]


async def until(holds: Callable[[], bool], limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@dataclass
class Reading:
    node: Node
    request: GenerateRequest = GenerateRequest(prompt=(1,))
    ids: list[int] = field(default_factory=list)
    news: list[Progress] = field(default_factory=list)
    answered: Answered | None = None

    async def run(self) -> list[int]:
        stream = self.node.caller.stream(
            Ask(SUBJECT, "generate", self.request), TokenEvent, on_progress=self.news.append
        )  # fmt: skip
        async for event, self.answered in stream:
            self.ids += event.ids
        return self.ids


@dataclass
class World:
    network: MemoryNetwork
    function: Open
    producer: Node
    reader: Node
    keys: Path
    offered: Producer


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    keychain = keychain_in(folder / "keys", "decode", "prefill", "user")
    network = MemoryNetwork()
    producer = await Node(network, keychain, CONFIG).open()
    reader = await Node(network, keychain, CONFIG).open()
    function = Open()
    offered = await producer.produce(function)
    yield World(network, function, producer, reader, folder, offered)
    await offered.close()
    await reader.close()
    await producer.close()
    network.close()


def event(token: int) -> bytes:
    return records.encode(TokenEvent((token,), f"{token} "))


async def write(stream: LiveStream, first: int, last: int, end: int = 19) -> None:
    for token in range(first, last + 1):
        stream.append(event(token), final=token == end)
        await asyncio.sleep(0.01)


def breaks(code: str) -> bytes:
    return records.encode(TokenEvent((), finish="error", error="a stage is gone", code=code))


@pytest.mark.parametrize("code", ["busy", "unreachable", "not-trusted", "no-room"])
async def test_a_stream_that_breaks_off_before_its_first_event_is_asked_for_again(tmp_path: Path, code: str) -> None:
    async with world(tmp_path) as w:
        work = asyncio.create_task(Reading(w.reader).run())
        (await w.function.opened()).append(breaks(code), failed=True)
        again = await w.function.opened(2)
        await write(again, 0, 2, end=2)
        assert await work == [0, 1, 2]


async def test_a_stream_that_breaks_off_later_is_lost_and_one_that_failed_is_told(tmp_path: Path) -> None:
    """A defect is no reason to ask somebody else: the event is the answer."""
    async with world(tmp_path) as w:
        reading = Reading(w.reader)
        work = asyncio.create_task(reading.run())
        stream = await w.function.opened()
        await write(stream, 0, 2)
        stream.append(breaks("unreachable"), failed=True)
        with pytest.raises(NetworkError, match="a stage is gone"):
            await work
        assert reading.ids == [0, 1, 2] and len(w.function.streams) == 1
        work = asyncio.create_task(Reading(w.reader, GenerateRequest(prompt=(2,))).run())
        (await w.function.opened(2)).append(breaks("failed"), failed=True)
        assert await work == [] and len(w.function.streams) == 2


# ------------------------------------------------------------ who said it


@pytest.mark.parametrize(("who", "what"), [("itself", "denial"), ("another", "denial"), ("another", "segment")])
async def test_what_caches_hold_of_a_stream_by_another_key_or_as_a_denial_ends_no_reader(
    tmp_path: Path, who: str, what: str
) -> None:
    """The trust schema allows every decode key to sign it; the answer to the call named one. A denial by that one may
    be an old one that is played back."""
    async with world(tmp_path) as w:
        w.producer.keychain.ensure(role("decode", node="n2"))
        await w.offered.offer_certificates(role("decode", node="n2"))  # its key alone tells it from the honest one
        forged: list[bytes] = []

        def forge(wire: bytes) -> bytes:
            """In place of segment 5; nothing is left of the true one."""
            data = decode_data(wire) if wire[0] == DATA else None
            if not w.function.streams or data is None or data.name != w.function.streams[0].name + ndn.segment(5):
                return wire
            signer = w.producer.keychain.signer_for(role("decode", node="n1" if who == "itself" else "n2"))
            kind, content = (CONTENT_NACK, b"") if what == "denial" else (0, event(666))
            forged.append(signer.sign_data(data.name, content, freshness_ms=60_000, content_type=kind))
            return forged[-1]

        w.producer.link.tamper_up = forge
        reading = Reading(w.reader)
        work = asyncio.create_task(reading.run())
        stream = await w.function.opened()
        await write(stream, 0, 19)
        assert await work == list(range(20)) and len(forged) == 1


async def test_a_producer_signs_nothing_about_streams_that_are_not_its_own(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        work = asyncio.create_task(Reading(w.reader).run())
        stream = await w.function.opened()
        other = stream.base + ndn.version(stream.version + 1)
        for name in (other + ndn.segment(0), other + PROGRESS, other + ndn.segment(1 << 60)):
            with pytest.raises(NetworkError):
                await w.reader.endpoint.express(name, lifetime_ms=500)
        await write(stream, 0, 19)
        await work


async def test_a_finished_stream_is_read_from_caches(tmp_path: Path) -> None:
    """All but the Interests ahead of a reader that does not know the end yet."""
    async with world(tmp_path) as w:
        work = asyncio.create_task(Reading(w.reader).run())
        stream = await w.function.opened()
        await write(stream, 0, 19)
        await work
        before = w.producer.endpoint.stats.interests_in
        assert await Reading(w.reader).run() == list(range(20))
        assert w.producer.endpoint.stats.interests_in - before <= CONFIG.fetch.stream_ahead - 1


# ------------------------------------------------------------ waiting is not death


async def test_a_stream_that_waits_longer_than_readers_are_patient_is_read_to_its_end(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        reading = Reading(w.reader)
        work = asyncio.create_task(reading.run())
        stream = await w.function.opened()
        stream.progress = lambda: records.encode(Progress("queued", 3))
        await asyncio.sleep(CONFIG.fetch.stream_idle_s + 1.0)
        stream.progress = lambda: records.encode(Progress("prefill", 0, 40, 190))
        await until(lambda: reading.news[-1].state == "prefill")
        await write(stream, 0, 19)
        assert await work == list(range(20)) and reading.news[0] == Progress("queued", 3)
        assert len(reading.news) < 10


async def test_old_news_and_news_by_another_key_are_no_sign_of_life(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.producer.keychain.ensure(role("decode", node="n2"))
        await w.offered.offer_certificates(role("decode", node="n2"))
        other = w.producer.keychain.signer_for(role("decode", node="n2"))
        reading = Reading(w.reader)
        work = asyncio.create_task(reading.run())
        stream = await w.function.opened()
        stream.append(event(0))
        await until(lambda: len(reading.ids) == 1)
        for newer, (signer, place) in enumerate(((w.function.signers[0], 7), (other, 8))):
            name = stream.name + PROGRESS + ndn.version(stream.version + newer)
            packet = signer.sign_data(name, records.encode(Progress("queued", place)), freshness_ms=100)
            stream.ask_progress = lambda request, packet=packet: request.reply(packet)  # type: ignore[method-assign,misc]
            await asyncio.sleep(1.5)
        with pytest.raises(NetworkError):
            await work
        assert len(reading.news) <= 1 and all(news.position == 7 for news in reading.news)


async def test_news_cost_nothing_when_nobody_looks_and_little_when_many_do(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        work = asyncio.create_task(Reading(w.reader).run())
        stream = await w.function.opened()
        made = []
        stream.progress = lambda: (made.append(0), records.encode(Progress("decode")))[1]
        await write(stream, 0, 9)
        assert not made
        for _ in range(50):
            await w.reader.endpoint.express(stream.name + PROGRESS, can_be_prefix=True, lifetime_ms=500)
        assert len(made) <= 2
        await write(stream, 10, 19)
        await work


# ------------------------------------------------------------ an end is an end


async def test_a_stream_that_failed_is_read_for_a_while_and_is_nobodys_answer_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caches hold the answer to the call and the segments; they do not repeat the failure."""
    monkeypatch.setattr(live_stream, "LINGER_S", 0.3)
    async with world(tmp_path) as w:
        work = asyncio.create_task(Reading(w.reader).run())
        stream = await w.function.opened()
        stream.append(event(1), failed=True)
        assert await work == [1] and stream.closed and w.producer.server.holds(stream.name) is False
        await until(lambda: w.producer.server.streams == 0)
        work = asyncio.create_task(Reading(w.reader).run())
        second = await w.function.opened(2)
        second.append(event(2), final=True)
        assert await work == [2] and second.name != stream.name


async def test_an_abandoned_stream_tells_its_readers_that_there_is_no_route(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        work = asyncio.create_task(Reading(w.reader).run())
        stream = await w.function.opened()
        stream.append(event(1))
        await until(lambda: stream.waiting > 0)
        stream.abandon()
        stream.abandon()
        assert stream.closed and w.producer.server.streams == 0
        with pytest.raises(NetworkError):
            await work


async def test_the_last_event_of_any_size_closes_its_stream(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        work = asyncio.create_task(Reading(w.reader).run())
        stream = await w.function.opened()
        with pytest.raises(Exception, match="8,?800|exceeds|bytes"):
            stream.append(bytes(9000), final=True)
        assert stream.closed and w.producer.server.streams == 0
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_open_streams_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w:
        monkeypatch.setattr(serve, "MAX_STREAMS", 3)
        signer = w.producer.keychain.signer_for(role("decode"))
        for number in range(3):
            w.producer.server.open_stream(NET + ndn.generic(str(number)), signer)
        with pytest.raises(Busy):
            w.producer.server.open_stream(NET, signer)
        for name in ("FIRST_READ_S", "KEPT_UNBEGUN_S"):
            monkeypatch.setattr(readership, name, 0.0)
        for stream in w.producer.server._streams.values():
            stream.readers._until = 0.0
        fresh = w.producer.server.open_stream(NET, signer)  # streams that nobody ended make room
        assert w.producer.server.streams == 1 and not fresh.closed
        fresh.abandon()
        fresh.append(event(1))


async def test_a_stream_without_words_for_its_progress_is_alive_all_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        work = asyncio.create_task(Reading(w.reader).run())
        stream = await w.function.opened()

        def wordless() -> bytes:
            raise ZeroDivisionError

        stream.progress = wordless
        await asyncio.sleep(CONFIG.fetch.stream_idle_s + 1.0)
        await write(stream, 0, 19)
        assert await work == list(range(20))


# ------------------------------------------------------------ death is noticed


@pytest.mark.parametrize("how", ["forgets", "leaves"])
async def test_a_producer_that_is_gone_is_noticed_by_what_the_network_says(tmp_path: Path, how: str) -> None:
    """Not by a timer: a minute of silence would be allowed. One that was started again does not know the stream; of one
    that left the forwarder says that there is no route."""
    async with world(tmp_path) as w:
        reading = Reading(w.reader)
        work = asyncio.create_task(reading.run())
        stream = await w.function.opened()
        await write(stream, 0, 9)
        await until(lambda: len(reading.ids) == 10)
        if how == "forgets":
            del w.producer.server._streams[stream.name]
        else:
            w.producer.endpoint.closed = True  # it does not come back
            w.producer.link.close()
        with pytest.raises(NetworkError):
            await asyncio.wait_for(work, 20.0)
        assert reading.ids == list(range(10))


async def test_a_stream_goes_on_when_its_producer_comes_back_under_another_face(tmp_path: Path) -> None:
    """No token lost or doubled; the producer registers again, and that is all."""
    async with world(tmp_path) as w:
        reading = Reading(w.reader)
        work = asyncio.create_task(reading.run())
        stream = await w.function.opened()
        for first in (0, 5, 10):
            await write(stream, first, first + 4)
            w.producer.link.close()
        await write(stream, 15, 19)
        assert await work == list(range(20)) and len(w.function.streams) == 1
