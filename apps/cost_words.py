"""What cost prints, as lines for people and as JSON with fields that stay.

Owns: these words; receipts beside the counters of producers. Must not know: where receipts come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

from ndn_infer import clock
from ndn_infer.evidence.prices import PricedRow, PricedUsage, PriceList
from ndn_infer.evidence.receipts import KeptReceipt, Usage

COMPARED: Final = {
    "receipts": "answers", "receipt_prompt_tokens": "prompt_tokens", "receipt_prompt_tokens_computed": "computed",
    "receipt_output_tokens": "output_tokens", "receipt_prefill_us": "prefill_us", "receipt_decode_us": "decode_us",
    "receipt_helpers_us": "helpers_us", "receipt_bytes_in": "bytes_in", "receipt_bytes_out": "bytes_out",
}  # fmt: skip
"""Counters of a producer, and the sums of receipts that they are to equal."""


def date(day: int) -> str:
    """Of a day since the Unix epoch."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()


def money(amount: Fraction) -> str:
    return f"{float(amount):.6f}"


def _key(key: Sequence[str], by: Sequence[str]) -> list[str]:
    return [date(int(value)) if name == "day" else value for value, name in zip(key, by, strict=True)]


def cost_lines(found: PricedUsage, by: Sequence[str], prices: PriceList | None) -> list[str]:
    """A table, the sums below it, and with a price list how both bases reconcile."""
    head = [*by, "answers", "cached", "prompt", "of it computed", "output", "CPU s"]
    head += ["usage", "allocation"] if prices is not None else []
    rows = [[*_key(row.key, by), *_numbers(row, prices)] for row in found.rows]
    whole = PricedRow(tuple("" for _ in by), found.whole, found.usage, found.allocation)
    rows.append([*("all" if place == 0 else "" for place in range(len(by))), *_numbers(whole, prices)])
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    aligned = ["<" if place < len(by) else ">" for place in range(len(head))]
    lines = [
        "  ".join(f"{cell:{align}{width}}" for cell, align, width in zip(row, aligned, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
    if found.whole.metered:
        lines.append(f"energy, metered for {found.whole.metered} answers: {found.whole.millijoules / 1000:.1f} J")
    if prices is not None:
        lines += _reconciled(found, prices)
    return lines


def _numbers(row: PricedRow, prices: PriceList | None) -> list[str]:
    sums = row.sums
    cells = [f"{sums.answers:,}", f"{sums.stored:,}", f"{sums.prompt_tokens:,}", f"{sums.computed:,}",
             f"{sums.output_tokens:,}", f"{sums.cpu_us / 1e6:,.2f}"]  # fmt: skip
    return cells + ([money(row.usage), money(row.allocation)] if prices is not None else [])


def _reconciled(found: PricedUsage, prices: PriceList) -> list[str]:
    unit = f" {prices.currency}" if prices.currency else ""
    return [
        f"usage       {money(found.usage)}{unit} = bill {money(found.bill)} {'+' if found.margin >= 0 else '-'} margin "
        f"{money(abs(found.margin))}",
        f"allocation  {money(found.allocation)}{unit} + idle {money(found.idle)} = bill {money(found.bill)}",
    ]


def cost_json(found: PricedUsage, by: Sequence[str], prices: PriceList) -> dict[str, Any]:
    """Amounts as texts with six digits after the point; `exact` as fractions."""
    return {
        "by": list(by), "currency": prices.currency,
        "rows": [
            {**dict(zip(by, _key(row.key, by), strict=True)), **_sums(row.sums), "usage": money(row.usage),
             "allocation": money(row.allocation)} for row in found.rows
        ],
        "all": {**_sums(found.whole), "usage": money(found.usage), "allocation": money(found.allocation),
                "bill": money(found.bill), "idle": money(found.idle), "margin": money(found.margin)},
        "exact": {"usage": str(found.usage), "allocation": str(found.allocation), "bill": str(found.bill),
                  "idle": str(found.idle), "margin": str(found.margin)},
    }  # fmt: skip


def _sums(sums: Usage) -> dict[str, Any]:
    return {**asdict(sums), "prompt_tokens": sums.prompt_tokens, "cpu_us": sums.cpu_us}


# ---------------------------------------------------------------- beside the producers' own counters


@dataclass(frozen=True, slots=True)
class Counted:
    """What one producer says of itself."""

    identity: str
    uptime_s: float
    counters: Mapping[str, float]


def beside(entries: Sequence[KeptReceipt], counted: Sequence[Counted]) -> list[dict[str, Any]]:
    """Of each producer: its counters, and the sums of the receipts that it signed since it runs, by the versions of
    their streams. Where others ask too their receipts are not here, and the counters are more."""
    found = []
    for one in counted:
        since_us = clock.wall_us() - round(one.uptime_s * 1e6)
        sums = Usage()
        for entry in entries:
            if entry.producer == one.identity and _made_us(entry.stream) >= since_us:
                sums.add(entry)
        compared = {
            name: {"counted": int(one.counters.get(name, 0)), "receipts": int(getattr(sums, field))}
            for name, field in COMPARED.items()
        }
        equal = all(pair["counted"] == pair["receipts"] for pair in compared.values())
        found.append({"identity": one.identity, "equal": equal, "sums": compared})
    return found


def _made_us(stream: str) -> int:
    """When a stream was opened: its version."""
    _, _, version = stream.rpartition("/v=")
    return int(version) if version.isdecimal() and len(version) < 20 else 0


def beside_lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for one in found:
        lines.append(
            f"{one['identity']}: its counters and the receipts here are {'equal' if one['equal'] else 'not equal'}"
        )
        for name, pair in one["sums"].items():
            mark = "" if pair["counted"] == pair["receipts"] else f"   {pair['counted'] - pair['receipts']:+,}"
            lines.append(f"  {name:32} {pair['counted']:>16,} {pair['receipts']:>16,}{mark}")
    return lines
