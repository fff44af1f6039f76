"""What producers offer: functions, places, queues and measured speeds, as they say themselves, signed.

Asks the processes that this machine's forwarder has routes to, the nodes of network.known and those of offers.pull, and
with offers.sync everybody of the network. `-` stands for what nobody has measured yet.

ndn-infer offers                     a table
ndn-infer offers --json              everything
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from typing import Any

from ndn_infer import catalog, clock, ndn
from ndn_infer.apps.audit import day, fault_as_json
from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.functions.registry import ROLES
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.offers.book import OfferEntry

NOBODY = (
    "no producer makes an offer here: start one with 'ndn-infer produce', or name nodes to ask with "
    "--set offers.pull=NODE"
)


HEAD = ("producer", "functions", "free", "queue", "prefill/s", "decode/s", "first token", "age")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace, config: Config) -> int:
    return asyncio.run(_main(options, config))


async def _main(options: argparse.Namespace, config: Config) -> int:
    async with await Node.join(config, ensure_keys(config, ROLES)) as node, Client(node) as client:
        await client.offers.look()
        entries = sorted(client.offers.entries(), key=lambda entry: entry.hint)
        faults = client.faults.all()
        aliases = catalog.aliases(config.catalog_dir)
    if options.json:
        left_out = [fault_as_json(fault) for fault in faults]
        print(json.dumps({"offers": [as_json(entry) for entry in entries], "left_out": left_out}))
    else:
        print_offers(entries, aliases)
        for fault in faults:
            print(f"  left out until {day(fault.until_us)}: {fault.identity} ({fault.words})")
    return 0


def as_json(entry: OfferEntry) -> dict[str, Any]:
    """An offer with all that it says; null for what is unknown."""
    offer, held = entry.offer, entry.offer.held
    return {
        "identity": offer.identity,
        "hint": offer.hint,
        "age_s": round((clock.wall_us() - offer.made_us) / 1e6, 1),
        "valid_s": round((offer.until_us - clock.wall_us()) / 1e6, 1),
        "functions": [
            {"function": one.function, one.subject_kind: one.subject, "private": one.private} for one in offer.functions
        ],
        "adapters": list(offer.adapters),
        "engine": offer.engine or None,
        "codec": offer.codec or None,
        "context": offer.context or None,
        "places": offer.places,
        "free": offer.free,
        "queue": offer.queue,
        "load": offer.load,
        "seconds_a_call": offer.call_s or None,
        "seconds_to_first_token": offer.prompt_s or None,
        "prefill_tokens_a_second": offer.prefill_tps or None,
        "decode_tokens_a_second": offer.decode_tps or None,
        "fetched_tokens_a_second": offer.fetch_tps or None,
        "held": None if held is None else {
            "bytes": len(held.bits), "one_in": 1 << held.rate, "block_tokens": held.block_tokens,
        },
    }  # fmt: skip


def print_offers(entries: Sequence[OfferEntry], aliases: dict[str, str]) -> None:
    """`aliases`: digest -> alias of models and corpora."""
    if not entries:
        print(NOBODY)
        return
    rows: list[tuple[str, ...]] = [HEAD, *map(_row, entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for digest in sorted({one.subject for entry in entries for one in entry.offer.functions}):
        print(f"  {digest[:16]}  {aliases.get(digest, 'no alias here')}")


def _row(entry: OfferEntry) -> tuple[str, ...]:
    offer = entry.offer
    private = any(one.private for one in offer.functions)
    functions = ",".join(dict.fromkeys(one.function for one in offer.functions)) + (" +private" if private else "")
    subject = offer.functions[0].subject[:8] if offer.functions else "-"
    place = "/".join(ndn.to_uri(entry.identity).rsplit("/", 3)[-3:])
    return (
        place, f"{functions} of {subject}", f"{offer.free}/{offer.places}", f"{offer.queue}",
        _number(offer.prefill_tps), _number(offer.decode_tps),
        f"{offer.prompt_s:.2f} s" if offer.prompt_s else "-",
        f"{max((clock.wall_us() - offer.made_us) / 1e6, 0):.0f} s",
    )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:,.0f}" if value else "-"
