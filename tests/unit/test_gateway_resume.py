"""Streams that are taken up again: wherever one broke off, however the answer is cut the next time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.gateway.forms.form import ServerEvent
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.gateway.resume import CatchUp, Following, StreamIds
from ndn_infer.records import TokenEvent

PATH, BODY = "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
CUTS = st.lists(st.integers(0, 99), max_size=6)
Told = list[tuple[str, Any]]


def pieces_of(event: TokenEvent) -> list[ServerEvent]:
    """A form of two events at most: what an event adds, and the end."""
    found = [ServerEvent({"text": event.text})] if event.text else []
    return [*found, ServerEvent({"finish": event.finish})] if event.finish else found


def events_of(cuts: list[int], text: str) -> list[TokenEvent]:
    """An answer, a token a character, cut into events at these places; the last one says why it ended."""
    edges = [0, *sorted({cut % (len(text) + 1) for cut in cuts} - {0, len(text)}), len(text)]
    events = [TokenEvent(tuple(range(a, b)), text[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    last = events.pop()
    return [*events, TokenEvent(last.ids, last.text, "stop")]


def stream(ids: StreamIds, answers: list[list[TokenEvent]]) -> Told:
    """(id, document) of every event, choices taking turns."""
    following, out = Following(ids, len(answers)), b""
    choices = [GrowingChoice(index, 0) for index in range(len(answers))]
    catch_ups = [CatchUp(ids.places.get(index, CatchUp().place)) for index in range(len(answers))]
    for turn in range(max(map(len, answers))):
        for index, events in enumerate(answers):
            for event, known in catch_ups[index].parts(events[turn]) if turn < len(events) else ():
                before = choices[index].text
                choices[index].take(event, stored=False)
                told = ChoiceEvent(choices[index], event, before, tokens=choices[index].tokens, known=known)
                pieces = [ServerEvent({"index": index, **piece.data}) for piece in pieces_of(event)]  # type: ignore[dict-item]
                out += following.encoded(told, pieces)
    blocks = [block.splitlines() for block in out.decode().split("\n\n") if block]
    return [(lines[1].removeprefix("id: "), json.loads(lines[0].removeprefix("data: "))) for lines in blocks]


def joined(told: Told, index: int) -> tuple[str, list[str]]:
    mine = [document for _, document in told if document["index"] == index]
    return "".join(one.get("text", "") for one in mine), [one["finish"] for one in mine if "finish" in one]


@given(
    st.lists(st.tuples(st.text("ab\nö", min_size=1, max_size=12), CUTS), min_size=1, max_size=3), st.integers(0, 99),
    CUTS,
)  # fmt: skip
def test_what_follows_an_id_is_what_had_not_been_told(
    answers: list[tuple[str, list[int]]], broken: int, other_cuts: list[int]
) -> None:
    first = StreamIds.of(PATH, BODY, "", "")
    before = stream(first, [events_of(cuts, text) for text, cuts in answers])
    before = before[: broken % len(before) + 1]
    again = StreamIds.of(PATH, BODY, "", before[-1][0])
    assert (again.key, again.created) == (first.key, first.created)
    same_cuts = all(place.pieces == 0 for place in again.places.values())
    cuts = [other_cuts if same_cuts else cuts for _, cuts in answers]  # the middle of an event is that of a stored one
    rest = stream(again, [events_of(cut, text) for cut, (text, _) in zip(cuts, answers, strict=True)])
    for index, (text, _) in enumerate(answers):
        assert joined([*before, *rest], index) == (text, ["stop"])


def test_an_id_is_of_one_request_in_one_domain() -> None:
    last = stream(StreamIds.of(PATH, BODY, "acme", ""), [events_of([1], "ab")])[0][0]
    assert StreamIds.of(PATH, dict(reversed(BODY.items())), "acme", last).resumed, "the same JSON"
    for path, body, domain in (
        (PATH, {**BODY, "seed": 1}, "acme"), ("/v1/completions", BODY, "acme"), (PATH, BODY, "other"), (PATH, BODY, ""),
    ):  # fmt: skip
        with pytest.raises(Refusal) as found:
            StreamIds.of(path, body, domain, last)
        assert found.value.status == 400 and found.value.param == "Last-Event-ID"


@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9_-]{38}\.(\d+-\d+-\d+_?){1,4}"))
def test_any_text_is_an_id_of_this_request_or_a_refusal(last: str) -> None:
    try:
        ids = StreamIds.of(PATH, BODY, "", last)
    except Refusal:
        return
    assert not last or ids.resumed


def test_a_forged_place_beyond_the_answer_tells_nothing_more() -> None:
    first = StreamIds.of(PATH, BODY, "", "")
    head = stream(first, [events_of([], "ab")])[0][0].partition(".")[0]
    far = StreamIds.of(PATH, BODY, "", f"{head}.9999999-9-0_5-5-f")
    assert [document for _, document in stream(far, [events_of([1], "ab")])] == [{"index": 0, "finish": "stop"}]
