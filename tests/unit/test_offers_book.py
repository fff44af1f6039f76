"""The book of offers: who may say what, how long it holds, and what calls teach beside it. In virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadRecord
from ndn_infer.offers.book import GONE_S, MAX_PROCESSES, Answering, Book
from ndn_infer.records.offer import VALID_S
from tests.offer_kit import NET, WALL_US, book_of, chain_of, entry_of, hint, identity, offer


def newer(one: object, by_s: float = 1.0, **fields: object) -> object:
    return replace(one, made_us=WALL_US + round(by_s * 1e6), **fields)  # type: ignore[type-var]


def test_an_offer_ends_by_its_own_word_and_by_ours() -> None:
    book = book_of(offer("n1"), offer("n2", until_us=WALL_US + 10**12))
    assert len(list(book.entries(29.9))) == 2
    assert [entry.identity for entry in book.entries(30.1)] == [identity("n2")]
    assert not list(book.entries(VALID_S + 0.1)), "whatever it says"
    book.expire(VALID_S + 0.1)
    assert len(book) == 0


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        (offer("n2"), "in the name of"),
        (offer("n1", hint=ndn.to_uri(hint("n2"))), "not its own name"),
        (offer("n1", hint=ndn.to_uri(identity("n1", "decoder"))), "not its own name"),
        (offer("n1", hint="not a name"), "names nobody"),
        (offer("n1", made_us=WALL_US + 10**9, until_us=WALL_US + 2 * 10**9), "future"),
    ],
)
def test_nobody_speaks_for_others(given_: object, words: str) -> None:
    book = Book(NET)
    with pytest.raises(BadRecord, match=words):
        book.take(given_, identity("n1"), 0.0, WALL_US)  # type: ignore[arg-type]
    assert len(book) == 0


def test_old_and_repeated_words_change_nothing() -> None:
    book = book_of(one := offer(free=3))
    assert book.take(replace(one, free=8), identity(), 1.0, WALL_US) is None
    assert book.take(replace(one, made_us=WALL_US - 1, free=8), identity(), 1.0, WALL_US) is None
    assert book.take(replace(one, until_us=WALL_US), identity(), 1.0, WALL_US) is None
    assert next(book.entries(1.0)).offer.free == 3
    assert book.take(newer(one, free=8), identity(), 1.0, WALL_US) is not None  # type: ignore[arg-type]
    assert next(book.entries(1.0)).offer.free == 8


def test_processes_of_one_identity_are_several_and_bounded() -> None:
    book = book_of(*(offer(instance=f"{number:02x}") for number in range(MAX_PROCESSES + 4)))
    assert len(book) == MAX_PROCESSES and len(book.identities(0.0)) == 1
    assert book.entry(hint(instance="00")) is None and book.entry(hint(instance=f"{MAX_PROCESSES + 3:02x}")) is not None


def test_the_book_is_bounded_and_forgets_what_was_heard_of_longest_ago() -> None:
    book = Book(NET, most=3)
    for number in range(6):
        book.take(offer(f"n{number}"), identity(f"n{number}"), float(number), WALL_US)
    assert [ndn.to_uri(name) for name in book.identities(6.0)] == [
        ndn.to_uri(identity(f"n{number}")) for number in (5, 4, 3)
    ]


def test_who_is_gone_comes_back_with_a_new_offer_and_not_at_once() -> None:
    book = book_of(one := offer())
    book.gone(hint(), 1.0)
    assert not book.identities(1.0)
    book.take(newer(one, 1), identity(), 1.0 + GONE_S / 2, WALL_US)  # type: ignore[arg-type]
    assert next(book.entries(2.0)).gone_since == 1.0, "made before it went, perhaps"
    book.take(newer(one, 2), identity(), 1.0 + GONE_S, WALL_US)  # type: ignore[arg-type]
    assert book.identities(3.0) == [identity()]


@pytest.mark.parametrize(("made_s", "back"), [(1.4, False), (1.6, True)])
def test_where_nobody_else_is_left_what_it_says_after_its_loss_is_enough(made_s: float, back: bool) -> None:
    book = book_of(one := offer())
    book.gone(hint(), 1.5)
    wall_us = WALL_US + 1_700_000
    book.take(newer(one, made_s), identity(), 1.7, wall_us, sought=True)  # type: ignore[arg-type]
    assert book.identities(1.7) == [identity()] * back


def test_an_answer_is_as_good_as_an_offer() -> None:
    book = book_of(offer())
    book.gone(hint(), 1.0)
    book.busy(hint(), 5.0, 1.0)
    book.answered(hint(), Answering(0.02, queue=3), 2.0)
    entry = book.entry(hint())
    assert entry is not None and entry.gone_since is None and entry.busy_until == 0.0 and entry.queue == 3
    assert entry.round_trip_s == 0.02
    book.answered(hint(), Answering(0.12), 3.0)
    assert entry.round_trip_s == pytest.approx(0.05)


def test_calls_on_their_way_count_until_the_next_word_or_their_end() -> None:
    book = book_of(one := offer(call_s=4.0))
    for at in (0.0, 1.0, 2.0):
        book.asked(hint(), at)
    entry = book.entry(hint())
    assert entry is not None and [entry.pending(now) for now in (2.0, 4.5, 5.5, 7.0)] == [3, 2, 1, 0]
    book.take(newer(one), identity(), 2.5, WALL_US)  # type: ignore[arg-type]
    assert entry.pending(2.5) == 0


def test_prompts_that_it_took_on_are_held_there_whatever_its_hint_says_yet() -> None:
    entry, values = entry_of(offer()), chain_of(640)
    assert entry.held(values) == 0
    book = book_of(offer())
    book.has(hint(), values[:30], 1.0)
    known = book.entry(hint())
    assert known is not None and known.held(values) == 30 and known.held(chain_of(640, "other")) == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 200)), max_size=80))
def test_bounded_whatever_comes(words: list[tuple[int, float]]) -> None:
    book, now = Book(NET, most=8), 0.0
    for number, (node, step_s) in enumerate(words):
        now += step_s
        made = WALL_US + number
        book.take(offer(f"n{node}", made_us=made, until_us=made + 10**8), identity(f"n{node}"), now, WALL_US)
        assert len(book) <= 8 and all(entry.until > now for entry in book.entries(now))


def test_prompts_that_were_sent_there_run_off() -> None:
    """A call waits for what is left of them by the estimate, not for a mean prompt for each that was ever sent."""
    book = book_of(offer(queue=2, prompt_s=1.0))
    entry = book.entry(hint())
    assert entry is not None and [entry.ahead_s(now) for now in (0.0, 0.5, 2.0, 9.0)] == [2.0, 1.5, 0.0, 0.0]
    book.asked(hint(), 9.0, 0.25)
    book.asked(hint(), 9.0, 0.25)
    assert [entry.ahead_s(now) for now in (9.0, 9.25, 9.5)] == [0.5, 0.25, 0.0]
    book.answered(hint(), Answering(0.02, queue=1, prompt_s=0.25), 10.0)
    assert [entry.ahead_s(now) for now in (10.0, 11.25)] == [1.25, 0.0]
