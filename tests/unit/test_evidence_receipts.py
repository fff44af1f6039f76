"""Receipts: what is summed, what is counted once, and that both bases of a price list reconcile exactly."""

from __future__ import annotations

import dataclasses
import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.client.receipt_journal import ReceiptJournal, receipts_in
from ndn_infer.errors import BadRecord
from ndn_infer.evidence.plain_json import canonical
from ndn_infer.evidence.prices import PriceList, UsagePrices, priced, read_prices
from ndn_infer.evidence.receipts import (
    DAY_US,
    GROUPS,
    KeptReceipt,
    each_once,
    grouped,
    read_line,
    total,
    write_line,
)
from ndn_infer.records.receipt import Energy, PromptTokens, Receipt

LIST = """
currency = "EUR"
[usage]
prompt_computed = 0.10
prompt_cached = 0.01
output = 0.4
cpu_second = 0.0001
answer = 0.000002
stored_answer = 0.000001
[models.big]
output = 1.7
[allocation]
node_hour = 0.12
hours_a_day = 7.5
[allocation.nodes]
"home/n9" = 0.3
"""


def entry(number: int, source: random.Random | None = None, **change: Any) -> KeptReceipt:
    pick = source or random.Random(number)
    prompt = PromptTokens(*(pick.randrange(0, 200) for _ in range(5)))
    sizes = (pick.randrange(0, 200_000) for _ in range(6))
    receipt = Receipt("bf16", prompt, *sizes, Energy(pick.randrange(10**6), "rapl") if pick.random() < 0.3 else None)
    node = f"{pick.choice(['home', 'away'])}/n{pick.randrange(3)}"
    made = KeptReceipt(
        f"/net/model/m/result/generate/{number}/v=1", f"/net/{node}/decode", "m" * 64, pick.choice(["small", "big"]),
        pick.choice(["public", "acme.1"]), 20_000 * DAY_US + pick.randrange(3 * DAY_US), False, receipt,
    )  # fmt: skip
    return dataclasses.replace(made, **change)


def test_an_entry_reads_as_it_was_written() -> None:
    for number in range(50):
        assert read_line(write_line(entry(number)).strip()) == entry(number)


def test_an_answer_that_is_read_twice_is_counted_once_and_from_a_cache_costs_nothing() -> None:
    made = entry(1)
    again = dataclasses.replace(made, stored=True, at_us=made.at_us + 5)
    for order in ([made, again, again], [again, made], [again, again, made]):
        whole = total(grouped(each_once(order), ()))
        assert (whole.answers, whole.stored) == (1, 0)
        assert whole.output_tokens == made.receipt.output_tokens
    alone = total(grouped(each_once([again]), ()))
    assert (alone.answers, alone.stored, alone.cpu_us, alone.prompt_tokens, alone.output_tokens) == (0, 1, 0, 0, 0)


def test_two_receipts_of_one_answer_that_differ_are_named() -> None:
    forged = dataclasses.replace(entry(1), receipt=dataclasses.replace(entry(1).receipt, output_tokens=1))
    with pytest.raises(BadRecord, match="generate/1/v=1 say other things"):
        each_once([entry(1), forged])


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40, unique=True), st.sets(st.sampled_from(sorted(GROUPS))))
def test_sums_do_not_depend_on_groups_and_both_bases_reconcile(numbers: list[int], by: set[str]) -> None:
    entries = [entry(number) for number in numbers]
    prices = read_prices(LIST)
    found, whole = priced(entries, sorted(by), prices), priced(entries, (), prices)
    assert found.whole == whole.whole
    assert found.usage == whole.usage == sum((row.usage for row in found.rows), Fraction(0))
    assert found.bill == whole.bill == found.allocation + found.idle
    assert found.usage == found.bill + found.margin
    days = {one.day for one in entries}
    nodes = {one.node for one in entries}
    assert found.idle >= Fraction("0.3") * Fraction("7.5") * len(days)  # home/n9 has no entry
    used = {(one.node, one.day) for one in entries}
    assert found.bill - Fraction("2.25") * len(days) == Fraction("0.9") * len(used) and "home/n9" not in nodes


def test_a_node_is_shared_by_cpu_time() -> None:
    prices = PriceList(node_hour=Fraction(1), hours_a_day=Fraction(24))
    rows = [Receipt(prefill_us=1, decode_us=2), Receipt(helpers_us=9), Receipt()]
    entries = [
        entry(place, producer="/net/home/n1/decode", at_us=5, receipt=one, domain=f"d{place}")
        for place, one in enumerate(rows)
    ]
    found = priced(entries, ("domain",), prices)
    assert [row.allocation for row in found.rows] == [6, 18, 0] and found.idle == 0 and found.bill == 24


def test_the_price_of_usage_is_that_of_the_list() -> None:
    receipt = Receipt("c", PromptTokens(1, 2, 3, 4, 1_000_000), 2_000_000, 500_000, 250_000, 250_000)
    one = entry(1, receipt=receipt, alias="small", stored=False)
    stored = entry(2, stored=True, alias="small")
    expected = Fraction("0.10") + Fraction("0.01") / 100_000 + Fraction("0.8") + Fraction("0.0001")
    assert priced([one, stored], (), read_prices(LIST)).usage == expected + Fraction("0.000003")
    assert read_prices(LIST).of_model("big") == UsagePrices(
        *map(Fraction, ("0.1", "0.01", "1.7", "0.0001", "0.000002", "0.000001"))
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("usage = 3", "usage is a table"),
        ("[usage]\noutput = -1", "usage.output is a number"),
        ("[usage]\noutput = nan", "usage.output is a number"),
        ("[usage]\noutput = true", "usage.output is a number"),
        ("[usage]\noutput = 1e999999999", "usage.output is a number"),
        ("[usage]\noutput = 1e-999999999", "usage.output is a number"),
        ("[usage]\ntokens = 1", "no 'tokens'"),
        ("[allocation]\nhours_a_day = 25", "hours_a_day"),
        ("currency = 3", "currency"),
        ("[allocation.nodes]\nn1 = 'x'", "nodes.n1"),
        ("[[", "not TOML"),
    ],
)
def test_a_price_list_that_is_none_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        read_prices(text)


@given(st.text(max_size=200))
def test_any_text_is_a_price_list_or_refused(text: str) -> None:
    try:
        read_prices(text)
    except BadRecord:
        return


JSON = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.just([])
    | st.just({})
)


@settings(max_examples=200)
@given(st.data(), JSON)
def test_a_value_of_any_kind_in_any_place_of_a_receipt_is_read_or_refused(data: Any, value: Any) -> None:
    document = json.loads(canonical(entry(7).as_json()))
    place = data.draw(st.sampled_from([document, document["receipt"], document["receipt"]["prompt"]]))
    place[data.draw(st.sampled_from(sorted(place)))] = value
    try:
        read = read_line(canonical(document))
    except BadRecord:
        return
    assert read_line(canonical(read.as_json())) == read


def test_the_journal_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    journal = ReceiptJournal(tmp_path / "net" / "receipts.jsonl", 20_000)
    for number in range(200):
        journal.add(entry(number))
    kept = [*receipts_in(journal.older), *receipts_in(journal.path)]
    assert kept == [entry(number) for number in range(200 - len(kept), 200)] and len(kept) > 15
    assert journal.path.stat().st_size + journal.older.stat().st_size < 24_000
    with journal.path.open("ab") as file:
        file.write(b'{"stream": "half a li')
    count = len(list(receipts_in(journal.path)))
    journal.add(entry(200))
    assert count and [*receipts_in(journal.path)][count:] == [entry(200)]
    with journal.path.open("ab") as file:
        file.write(b'{"stream": "half a li')
    with journal.path.open("ab") as file:
        file.write(b'ne"}\n')
    with pytest.raises(BadRecord, match="line"):
        list(receipts_in(journal.path))
