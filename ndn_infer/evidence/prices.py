"""Prices: what usage costs by an operator's list, on two bases that reconcile.

Owns: the price list and its TOML, both bases, what holds between them. Exact fractions. Pure. Must not know: receipts
beyond their sums, currencies.

Usage basis: tokens by kind, answers and CPU seconds, each at its price. Allocation basis: a node costs its price an
hour whether it works or not; of each day of each node every row bears the share that it has in the CPU time of all rows
there. What a node costs on a day without any use is borne by nobody: `idle`. So, exactly:

    usage = sum of the rows' usage          = price x sums, whatever the rows are grouped by
    bill  = price of an hour x hours x days, of all nodes = sum of the rows' allocation + idle
    usage = bill + margin
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.receipts import KeptReceipt, Usage, UsageRow, grouped, total

MAX_LIST_BYTES: Final = 1 << 18
MAX_NAMED: Final = 1000
"""Models, or nodes, that have prices of their own."""
MILLION: Final = 1_000_000
_MOST: Final = 10**12
_USAGE: Final = ("prompt_computed", "prompt_cached", "output", "cpu_second", "answer", "stored_answer")


@dataclass(frozen=True, slots=True)
class UsagePrices:
    """Per million tokens of prompts computed, of prompts whose KV was there, of answers; per second of CPU time of
    engine threads and helpers; per answer, and per answer that caches gave."""

    prompt_computed: Fraction = Fraction(0)
    prompt_cached: Fraction = Fraction(0)
    output: Fraction = Fraction(0)
    cpu_second: Fraction = Fraction(0)
    answer: Fraction = Fraction(0)
    stored_answer: Fraction = Fraction(0)

    def of(self, usage: Usage) -> Fraction:
        return (
            self.prompt_computed * Fraction(usage.computed, MILLION)
            + self.prompt_cached * Fraction(usage.cached, MILLION)
            + self.output * Fraction(usage.output_tokens, MILLION)
            + self.cpu_second * Fraction(usage.cpu_us, MILLION)
            + self.answer * usage.answers
            + self.stored_answer * usage.stored
        )


@dataclass(frozen=True, slots=True)
class PriceList:
    """`models` have usage prices of their own, by alias. `node_hour` is the price of an hour of every node that has
    none in `nodes` (by site/node); nodes that are listed there are paid whether they are used or not."""

    currency: str = ""
    usage: UsagePrices = UsagePrices()
    models: Mapping[str, UsagePrices] = field(default_factory=dict)
    node_hour: Fraction = Fraction(0)
    nodes: Mapping[str, Fraction] = field(default_factory=dict)
    hours_a_day: Fraction = Fraction(24)

    def of_model(self, alias: str) -> UsagePrices:
        return self.models.get(alias, self.usage)

    def of_node(self, node: str) -> Fraction:
        """Of a day."""
        return self.nodes.get(node, self.node_hour) * self.hours_a_day


def read_prices(text: str) -> PriceList:
    """A price list (docs/cost.md). Raises BadRecord that names the field."""
    if len(text) > MAX_LIST_BYTES:
        raise BadRecord(f"a price list of more than {MAX_LIST_BYTES} characters")
    try:
        given = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError, InvalidOperation, ValueError) as error:
        raise BadRecord(f"the price list is not TOML: {str(error)[:200]}") from error
    _known(given, ("currency", "usage", "models", "allocation"), "price list")
    currency = given.get("currency", "")
    if not isinstance(currency, str) or len(currency) > 16:
        raise BadRecord("currency is a text of at most 16 characters")
    usage = _usage(_table(given, "usage", "price list"), UsagePrices(), "usage")
    named, allocation = _table(given, "models", "price list"), _table(given, "allocation", "price list")
    models = {alias: _usage(_table(named, alias, "models"), usage, f"models.{alias}") for alias in _few(named)}
    _known(allocation, ("node_hour", "hours_a_day", "nodes"), "allocation")
    nodes = _few(_table(allocation, "nodes", "allocation"))
    return PriceList(
        currency, usage, models, _price(allocation, "node_hour", "allocation", Fraction(0)),
        {node: _price(nodes, node, "allocation.nodes", Fraction(0)) for node in nodes},
        _price(allocation, "hours_a_day", "allocation", Fraction(24), most=24),
    )  # fmt: skip


def _usage(given: Mapping[str, Any], default: UsagePrices, where: str) -> UsagePrices:
    _known(given, _USAGE, where)
    return UsagePrices(*(_price(given, name, where, getattr(default, name)) for name in _USAGE))


def _price(given: Mapping[str, Any], name: str, where: str, default: Fraction, *, most: int = _MOST) -> Fraction:
    value = given.get(name)
    if value is None:
        return default
    # A Decimal of any exponent compares; only one that is in its bounds becomes a fraction.
    number = isinstance(value, Decimal) and value.is_finite() and (not value or value.adjusted() > -13)
    if type(value) is not int and not number or not 0 <= value <= most:
        raise BadRecord(f"{where}.{name} is a number from 0 to {most}, with 12 digits after the point at most")
    return Fraction(value)


def _table(given: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = given.get(name, {})
    if not isinstance(value, dict):
        raise BadRecord(f"{where}.{name} is a table")
    return value


def _few(given: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(given) > MAX_NAMED:
        raise BadRecord(f"{len(given)} names in one table of a price list, and {MAX_NAMED} are the most")
    return given


def _known(given: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    if unknown := [name for name in given if name not in names]:
        raise BadRecord(f"{where} has no {unknown[0]!r:.80}, only {', '.join(names)}")


# ---------------------------------------------------------------- bills


@dataclass(slots=True)
class PricedRow:
    """`key`: a value of each group."""

    key: tuple[str, ...]
    sums: Usage = field(default_factory=Usage)
    usage: Fraction = Fraction(0)
    allocation: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class PricedUsage:
    """`margin` is what usage brings beyond the bill; below 0 where it brings less."""

    rows: tuple[PricedRow, ...]
    whole: Usage
    usage: Fraction
    bill: Fraction
    idle: Fraction

    @property
    def allocation(self) -> Fraction:
        return sum((one.allocation for one in self.rows), Fraction(0))

    @property
    def margin(self) -> Fraction:
        return self.usage - self.bill


def priced(entries: Iterable[KeptReceipt], by: Sequence[str], prices: PriceList) -> PricedUsage:
    """Entries, one an answer, grouped by names of GROUPS. Days are those on which any entry is; nodes that are
    listed are paid on each of them."""
    rows = grouped(entries, (*by, "model"))
    places: dict[tuple[str, int], int] = {}
    for row in rows:
        for place, cpu_us in row.at.items():
            places[place] = places.get(place, 0) + cpu_us
    days = {day for _, day in places}
    for node in prices.nodes:
        for day in days:
            places.setdefault((node, day), 0)
    bill = sum((prices.of_node(node) for node, _ in places), Fraction(0))
    found: dict[tuple[str, ...], PricedRow] = {}
    for row in rows:
        key, model = row.key[:-1], row.key[-1]
        one = found.setdefault(key, PricedRow(key))
        one.sums.include(row.usage)
        one.usage += prices.of_model(model).of(row.usage)
        one.allocation += _share(row, places, prices)
    priced_rows = tuple(found.values())
    usage = sum((one.usage for one in priced_rows), Fraction(0))
    idle = sum((prices.of_node(node) for (node, _), cpu_us in places.items() if not cpu_us), Fraction(0))
    return PricedUsage(priced_rows, total(rows), usage, bill, idle)


def _share(row: UsageRow, places: Mapping[tuple[str, int], int], prices: PriceList) -> Fraction:
    found = Fraction(0)
    for place, cpu_us in row.at.items():
        if cpu_us:
            found += prices.of_node(place[0]) * Fraction(cpu_us, places[place])
    return found
