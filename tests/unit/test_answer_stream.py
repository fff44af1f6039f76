"""Answers of tokens: text, stops, pauses; and an end in every case, whatever goes wrong and whoever leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import clock, ndn, records
from ndn_infer.apps.ask import logprobs_json
from ndn_infer.engine.answer_text import resume
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.errors import Busy, ModelError
from ndn_infer.functions.answer_meter import AnswerCounts, AnswerMeter
from ndn_infer.functions.answer_stream import AnswerStream, PushedAt, Report
from ndn_infer.functions.open_answers import OpenAnswers
from ndn_infer.functions.token_events import EVENT_BYTES, EventPace
from ndn_infer.metrics.meters import Meters
from ndn_infer.ndn.packet import Interest, decode_data
from ndn_infer.records import GenerateRequest, Progress, Sampling, TokenEvent, TokenLogprobs
from ndn_infer.security.crypto import PrivateKey, Signer
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.transport.link.endpoint import ReceivedInterest
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.wire import readership
from ndn_infer.wire.shares import Seat, Seats
from tests.unit.test_engine_tokenizer import byte_tokenizer

BASE = ndn.from_uri("/net/model/m/result/generate/r")
SIGNER = Signer.of(PrivateKey.generate(), BASE, BASE + ndn.from_uri("/KEY/k/i/v=1"))
TOKENIZER = ChatTokenizer(byte_tokenizer(), "", {}, ())
ID = {TOKENIZER.token_bytes(number): number for number in range(TOKENIZER.vocab_size)}


def ids(text: str | bytes) -> list[int]:
    return [ID[bytes((byte,))] for byte in (text.encode() if isinstance(text, str) else text)]


@dataclass
class Reader:
    """Reads a stream where it is made."""

    out: LiveStream
    events: list[TokenEvent] = field(default_factory=list)

    def ask(self, number: int = 0, lifetime_s: float = 0.05) -> None:
        interest = Interest(self.out.name + ndn.segment(number))
        expires = clock.monotonic() + lifetime_s
        self.out.ask(number, ReceivedInterest(interest, self._take, lambda reason: None, expires))

    def _take(self, wire: bytes) -> None:
        data = decode_data(wire)
        assert len(data.content) <= EVENT_BYTES
        self.events.append(records.decode(TokenEvent, data.content))

    def read(self) -> list[TokenEvent]:
        """All there is."""
        self.events = []
        for number in range(len(self.out._packets)):
            self.ask(number)
        return self.events

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.read())


def stream() -> LiveStream:
    made = LiveStream(BASE, SIGNER, None, lambda stream, packets, linger_s: None)
    made.readers.kept_s = 0.4
    return made


def answer(out: LiveStream, *, prompt: tuple[int, ...] = (1, 2), answered: int = 0, event_s: float = 0.0,
           counters: Counter[str] | None = None, **sampling: object) -> AnswerStream:  # fmt: skip
    request = GenerateRequest(Sampling(**sampling), prompt=prompt, answered=answered)  # type: ignore[arg-type]
    text = resume(TOKENIZER, request.sampling.stop, prompt[len(prompt) - answered :])
    counts = AnswerCounts(Counter() if counters is None else counters, AnswerMeter(Meters(), "m", len(prompt)))
    return AnswerStream(request, TOKENIZER, out, EventPace(event_s), counts, text)


def push(made: AnswerStream, tokens: list[int], finish: str = "length") -> None:
    for number, token in enumerate(tokens, 1):
        if made.push(token, -0.5, ((token, -0.5), (999_999, -9.0)), finish if number == len(tokens) else ""):
            return


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, seconds in (("READ", 0.1), ("MOST_READ", 0.3), ("FIRST_READ", 0.1), ("KEPT_UNBEGUN", 0.2)):
        monkeypatch.setattr(readership, f"{name}_S", seconds)
    yield


# ------------------------------------------------------------ text


async def test_tokens_become_events_and_the_last_one_carries_the_report() -> None:
    out = stream()
    made = answer(out)
    made.report = Report(names=("/kv",), holders=("/holder",))
    push(made, ids("hey"), "stop")
    last = Reader(out).read()[-1]
    assert Reader(out).text == "hey" and made.ended and not out.failed
    assert (last.finish, last.prompt_tokens, last.kv_names, last.kv_holders) == ("stop", 2, ("/kv",), ("/holder",))


@pytest.mark.parametrize("ends", ["length", "fails"])
async def test_tokens_pushed_together_are_one_event(ends: str) -> None:
    """Also where the last of them does not come."""
    out = stream()
    made = answer(out, logprobs=1)
    more = PushedAt(at=1.0, more=True)
    assert not any(made.push(token, -0.5, (), "", more) for token in ids("h\u00e9"))
    assert not Reader(out).read() and len(made.ids) == 3
    made.push(ids("y")[0], -0.5, (), "length") if ends == "length" else made.fail("gone")
    first, *rest = Reader(out).read()
    assert first.text == ("h\u00e9y" if ends == "length" else "h\u00e9") and len(first.logprobs) == len(first.ids)
    assert not rest or (rest[-1].finish == "error" and not rest[-1].ids)


async def test_what_follows_a_stop_string_is_not_told_although_it_came_together() -> None:
    out = stream()
    made = answer(out, stop=("b",))
    told = [made.push(token, -0.5, (), "", PushedAt(more=True)) for token in ids("abc")]
    assert told == [False, True, True] and Reader(out).text == "a" and made.ids == ids("ab")


async def test_an_answer_of_no_tokens_ends_when_the_prompt_is_computed() -> None:
    out = stream()
    made = answer(out, max_tokens=0)
    push(made, ids("hey"))
    (last,) = Reader(out).read()
    assert (last.ids, last.text, last.finish, last.prompt_tokens) == ((), "", "length", 2) and not made.ids


async def test_log_probabilities_carry_bytes_to_print() -> None:
    out = stream()
    push(answer(out, logprobs=2), ids("é")[:1])
    told = Reader(out).read()[0].logprobs[0]
    assert told.text == "é".encode()[:1] and told.top_text == ("é".encode()[:1], b"") and len(told.top) == 2


def test_log_probabilities_are_printed_with_the_text_of_each_token() -> None:
    told = TokenLogprobs(-0.5, ((7, -0.5), (8, -2.0)), b" the", (b" the", b"\xc3"))
    assert logprobs_json([7], [told]) == [
        {"id": 7, "text": " the", "logprob": -0.5,
         "top": [{"id": 7, "text": " the", "logprob": -0.5}, {"id": 8, "text": "\ufffd", "logprob": -2.0}]}
    ]  # fmt: skip


async def test_ids_without_a_token_have_no_text_and_end_nothing() -> None:
    """Rows that pad a vocabulary, in the prompt that goes on and in the answer."""
    out, padded = stream(), TOKENIZER.vocab_size + 100
    made = answer(out, prompt=(1, padded, *ids("a")), answered=2)
    push(made, [*ids("b"), padded, *ids("c")])
    assert Reader(out).text == "bc" and not out.failed and made.ids[1] == padded


async def test_a_stop_string_over_a_continuation_ends_it() -> None:
    out = stream()
    push(answer(out, prompt=tuple(ids("xyEN")), answered=4, stop=("END",)), ids("Dmore"))
    assert Reader(out).text == "" and Reader(out).read()[-1].finish == "stop"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, TOKENIZER.vocab_size + 50), min_size=1, max_size=40), st.sampled_from([0, 5]),
    st.lists(st.text(min_size=1, max_size=4), max_size=2), st.sampled_from(["stop", "length"]),
    st.sampled_from([0.0, 10.0]),
)  # fmt: skip
def test_every_answer_ends_whatever_it_holds(
    tokens: list[int], logprobs: int, stops: list[str], finish: str, event_s: float
) -> None:
    async def main() -> None:
        out = stream()
        made = answer(out, event_s=event_s, logprobs=logprobs, stop=tuple(stops))
        push(made, tokens, finish)
        assert out.closed and Reader(out).read()[-1].finish in ("stop", "length")
        if not stops:
            assert [token for event in Reader(out).read() for token in event.ids] == tokens
        assert made._timer is None and made._watch is None

    asyncio.run(main())


@pytest.mark.parametrize("stops", [(), ("x" * 10_000,)])
async def test_an_answer_ends_that_was_held_back_to_its_end(stops: tuple[str, ...]) -> None:
    """By a stop string that does not come, and by bytes that are no character: more than a packet holds."""
    out = stream()
    tokens = ids("x" * 9_000) if stops else ids(b"\x80" * 4_000)
    push(answer(out, stop=stops, max_tokens=9_000), tokens)
    assert out.closed and not out.failed and len(Reader(out).text) == len(tokens)
    assert [token for event in Reader(out).read() for token in event.ids] == tokens


@pytest.mark.parametrize("where", ["decoder.push", "decoder.finish", "stops.push", "events.add", "events.finish"])
async def test_whatever_breaks_while_an_event_is_made_ends_the_stream_with_words(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    out = stream()
    made = answer(out)
    made.push(ids("a")[0], 0.0, ())
    owner, method = where.split(".")
    monkeypatch.setattr(type(getattr(made, f"_{owner}")), method, broken)
    made.push(ids("b")[0], 0.0, (), "length")
    last = Reader(out).read()[-1]
    assert made.ended and out.failed and last.finish == "error" and last.error
    await asyncio.wait_for(made.wait_ended(), 1.0)


async def test_an_answer_that_is_given_up_ends_although_what_was_held_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    out = stream()
    made = answer(out, max_tokens=9)
    made.push(ids("a")[0], 0.0, (), "", PushedAt(more=True))
    monkeypatch.setattr(type(made._decoder), "push_all", broken)
    made.fail("words")
    assert Reader(out).read()[-1].error == "words" and out.failed
    await asyncio.wait_for(made.wait_ended(), 1.0)


async def test_words_of_any_kind_can_be_the_last() -> None:
    for words in ("x" * 20_000, "\udcff of a file name", "", "ä" * 9000):
        out = stream()
        answer(out).fail(words)
        assert Reader(out).read()[-1].finish == "error" and Reader(out).read()[-1].error


# ------------------------------------------------------------ readers


@pytest.mark.usefixtures("quick")
async def test_who_is_not_read_pauses_comes_back_and_ends() -> None:
    out, counters = stream(), Counter[str]()
    made = answer(out, counters=counters)
    heard: list[str] = []
    made.on_away, made.on_back = lambda: heard.append("away"), lambda: heard.append("back")
    made.on_left = lambda: heard.append("left")
    seat = Seat(Seats(1), "face")
    assert seat.take()
    out.on_paused, out.on_closed = lambda paused: seat.give() if paused else seat.take(), seat.give
    reader = Reader(out)
    for number in range(6):
        made.push(ids("a")[0], 0.0, ())
        reader.ask(number)
        await asyncio.sleep(0.04)
    assert heard == []
    await asyncio.sleep(0.15)
    assert heard == ["away"] and made.away and not seat.taken, "its seat is another's meanwhile"
    reader.ask(6)
    assert heard == ["away", "back"] and not made.away and seat.taken
    await asyncio.wait_for(made.wait_ended(), 5.0)
    assert heard == ["away", "back", "away", "left"] and out.closed and counters["abandoned"] == 1
    assert made.push(1, 0.0, ()) is True and not seat.taken
    made.fail("too late")
    made.close()


class SlowReader(Reader):
    """Takes its time over each event before it asks for the next one."""

    async def run(self, out: AnswerStream, takes_s: float, until: int) -> None:
        while len(self.events) < until and not (self.events and self.events[-1].finish):
            seen = len(self.events)
            self.ask(seen, lifetime_s=1.0)
            while len(self.events) == seen and not out.ended:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(takes_s)


async def made_in_time(made: AnswerStream, tokens: int, every_s: float) -> None:
    for number in range(tokens):
        await asyncio.sleep(every_s)
        made.push(ids("a")[0], 0.0, (), "length" if number == tokens - 1 else "")


@pytest.mark.parametrize(("takes_s", "packets"), [(1.0, 13), (0.3, 36)])
def test_a_slow_reader_costs_the_packets_that_it_asks_for(takes_s: float, packets: int) -> None:
    """200 tokens in ten seconds, which a quick reader has in more than a hundred."""

    async def main() -> None:
        out = stream()
        made = answer(out, event_s=0.05)
        slow = SlowReader(out)
        reading = asyncio.create_task(slow.run(made, takes_s, 1000))
        await made_in_time(made, 200, 0.05)
        told = len(out._packets)
        await reading
        assert told <= packets and slow.text == "a" * 200 and slow.events[-1].finish == "length"

    run_virtual(main)


def test_a_reader_that_stopped_asking_costs_nothing_and_has_all_of_it_when_it_asks_again() -> None:
    async def main() -> None:
        out = stream()
        out.readers.kept_s = 30.0
        made = answer(out, event_s=0.05)
        reader = SlowReader(out)
        making = asyncio.create_task(made_in_time(made, 60, 0.05))
        await reader.run(made, 0.0, 5)
        told = len(out._packets)
        assert told == 5 and not made.away
        await asyncio.sleep(1.2)
        assert len(out._packets) == told and not made.away and made._timer is None, "no packet, no timer"
        reader.ask(told)
        assert len(out._packets) == told + 1 and len(reader.events[-1].ids) > 20, "all at once, when it asks"
        await making
        assert reader.text == "a" * 60

    run_virtual(main)


# ------------------------------------------------------------ tasks


@dataclass
class Desk:
    """A function that makes answers as the test says."""

    answers: OpenAnswers
    cancelled: int = 0

    def open(self, state: str = "decode") -> AnswerStream:
        self.answers.admit()
        made = answer(stream())
        made.progress = lambda: Progress(state)

        async def work() -> None:
            try:
                await made.wait_ended()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

        self.answers.start(made, work)
        return made


@pytest.mark.usefixtures("quick")
async def test_a_task_ends_with_its_answer_in_every_case() -> None:
    desk = Desk(OpenAnswers(8))
    done, failed, left = desk.open(), desk.open(), desk.open()
    for made, error in ((failed, ModelError("no")), (done, None)):
        if error is None:
            push(made, ids("x"))
        else:
            made.fail(str(error))
    await asyncio.wait_for(left.wait_ended(), 5.0)
    await asyncio.sleep(0.02)
    assert len(desk.answers) == 0 and desk.cancelled <= 1

    async def raises() -> None:
        raise ZeroDivisionError

    async def returns() -> None:
        return

    for work, words in ((raises, "ZeroDivisionError in generate"), (returns, None)):
        made = answer(out := stream())
        desk.answers.start(made, work)
        await asyncio.wait_for(made.wait_ended(), 1.0)
        assert out.closed and (words is None or Reader(out).read()[-1].error == words)
    open_still = desk.open()
    await desk.answers.close()
    assert open_still.ended and len(desk.answers) == 0
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_who_waits_is_told_its_place() -> None:
    desk = Desk(OpenAnswers(8))
    first, second, third = desk.open("decode"), desk.open("queued"), desk.open("queued")
    places = [records.decode(Progress, made.out.progress()) for made in (first, second, third)]
    assert places == [Progress("decode"), Progress("queued", 0), Progress("queued", 1)]
    assert desk.answers.queued == 2 and len(desk.answers) == 3
    await desk.answers.close()


@pytest.mark.usefixtures("quick")
async def test_a_new_caller_takes_the_place_of_one_that_left() -> None:
    desk = Desk(OpenAnswers(2))
    gone, here = desk.open(), desk.open()
    with pytest.raises(Busy):
        desk.open()
    for _ in range(3):
        await asyncio.sleep(0.05)
        Reader(here.out).ask()
    assert gone.away and not here.away
    new = desk.open()
    assert gone.ended and not here.ended and not new.ended
    await desk.answers.close()
