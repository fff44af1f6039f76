"""What answers cost, from the signed receipts in them: tokens, CPU seconds, bytes, and prices on two bases.

ndn-infer cost                                    this machine's own receipts, by model, site, domain and day
ndn-infer cost --prices prices.toml --by domain   on a usage basis and on an allocation basis, which reconcile
ndn-infer cost alice.jsonl bob.jsonl              the journals of several consumers; an answer is counted once
ndn-infer cost --counters                         beside what the producers that run now have counted themselves
ndn-infer cost --recount NAME                     count the tokens of one answer again, from named objects alone

Exit status 4: a recount gave other numbers. docs/cost.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from ndn_infer.apps import cost_words as words
from ndn_infer.apps.cost_recount import recount
from ndn_infer.apps.status import collect
from ndn_infer.client.receipt_journal import ReceiptJournal, receipts_in
from ndn_infer.config import Config
from ndn_infer.errors import StorageError, UsageError
from ndn_infer.evidence.prices import MAX_LIST_BYTES, PriceList, priced, read_prices
from ndn_infer.evidence.receipts import GROUPS, KeptReceipt, each_once
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node

UNLIKE = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journals", nargs="*", type=Path, metavar="FILE", help="receipts.jsonl of several consumers")
    parser.add_argument("--by", default=",".join(GROUPS), metavar="WORDS", help=f"any of {', '.join(GROUPS)}, or 'all'")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="the operator's price list (TOML)")
    parser.add_argument("--day", default="", metavar="YYYY-MM-DD", help="the answers of this day (UTC)")
    parser.add_argument("--counters", action="store_true", help="compare with the counters of producers that run now")
    parser.add_argument("--recount", default="", metavar="NAME", help="of one answer, by the name of its stream")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")


def run(options: argparse.Namespace, config: Config) -> int:
    if options.recount:
        found = asyncio.run(recount(config, options.recount))
        print(json.dumps(found.as_json()) if options.json else "\n".join(found.lines()))
        return 0 if found.agrees else UNLIKE
    by = _groups(options.by)
    prices = PriceList() if options.prices is None else read_prices(_text(options.prices))
    entries = [one for one in each_once(_entries(options.journals, config)) if _of_day(one, options.day)]
    found_costs = priced(entries, by, prices)
    counted = asyncio.run(_counters(config)) if options.counters else None
    beside = None if counted is None else words.beside(entries, counted)
    if options.json:
        document = words.cost_json(found_costs, by, prices)
        print(json.dumps(document if beside is None else document | {"producers": beside}))
        return 0
    print("\n".join(words.cost_lines(found_costs, by, prices if options.prices is not None else None)))
    if beside is not None:
        print("\n".join(words.beside_lines(beside)))
    return 0


def _groups(text: str) -> tuple[str, ...]:
    if text == "all":
        return ()
    found = tuple(dict.fromkeys(text.split(",")))
    if unknown := [word for word in found if word not in GROUPS]:
        raise UsageError(f"costs are not grouped by {unknown[0]!r}", hint=f"--by takes any of {', '.join(GROUPS)}")
    return found


def _entries(journals: list[Path], config: Config) -> list[KeptReceipt]:
    """Those of the files, or of this machine's own journal."""
    if journals:
        return [entry for path in journals for entry in receipts_in(path)]
    journal = ReceiptJournal.of(config)
    paths = [] if journal is None else [journal.older, journal.path]
    return [entry for path in paths if path.is_file() for entry in receipts_in(path)]


def _of_day(entry: KeptReceipt, day: str) -> bool:
    return not day or words.date(entry.day) == day


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_LIST_BYTES + 1)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start + 1})") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


async def _counters(config: Config) -> list[words.Counted]:
    """Of the producers that answer now."""
    async with await Node.join(config, ensure_keys(config)) as node:
        status = await collect(node)
    return [
        words.Counted(one["identity"], one["uptime_s"], one["counters"])
        for one in status["producers"] if "receipts" in one.get("counters", {})
    ]  # fmt: skip
