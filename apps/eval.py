"""Evaluate a model by name: suites and scores are signed records, and every answer of a score has a name.

ndn-infer eval list                                    suites that ship, suites and scores of this machine
ndn-infer eval run basics --limit 12                   ask, score, sign; asked again, caches answer
ndn-infer eval run reasoning-gym:chain_sum --count 200 a generator of a package (pip install 'ndn-infer[eval]')
ndn-infer eval make --items FILE --scorer contains --name capitals
ndn-infer eval show last                               a score: by file, name, beginning of its digest, or 'last'
ndn-infer eval reproduce NAME|FILE --recompute         ask all of it again: how many answers are identical
ndn-infer eval compare A B                             paired: McNemar's exact test, bootstrap of the difference
ndn-infer eval serve                                   offer the records of this machine until it is stopped

Exit status 4: reproduce found other answers, or show --rescore other values. docs/eval.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from ndn_infer.apps import eval_records, eval_run
from ndn_infer.apps.question import add_sampling_arguments
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.evidence.scorers import VERSIONS

_NAMES: Final = {"make": 0, "list": 0, "serve": 0, "run": 1, "show": 1, "reproduce": 1, "compare": 2}
"""Actions, and how many suites or scores each takes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=tuple(_NAMES))
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="suite (run) or score: a file, a name, a digest, 'last'"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the record to FILE, for others")
    parser.add_argument("--repo", default="", metavar="IDENTITY", help="which repo keeps the record (default: ours)")
    _add_asking(parser.add_argument_group("run and reproduce"))
    _add_making(parser.add_argument_group("make, and run of a generator"))
    showing = parser.add_argument_group("show")
    showing.add_argument("--texts", action="store_true", help="each item with its answer")
    showing.add_argument("--rescore", action="store_true", help="judge the texts of the record again, asking nobody")
    showing.add_argument("--export", nargs=2, metavar=("eee", "FOLDER"), help="in the Every Eval Ever schema")


def _add_asking(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--model", default="", help="alias, Hugging Face id or digest")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N items")
    parser.add_argument("--concurrency", type=int, default=4, metavar="K", help="calls at a time (1 to 64)")
    parser.add_argument("--recompute", action="store_true", help="have every answer computed again, past all caches")
    parser.add_argument("--at", action="append", default=[], metavar="IDENTITY", help="ask this producer; repeatable")
    parser.add_argument("--suite", default="", metavar="NAME", help="reproduce, show: the suite, where it is not found")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--embedded", action="store_true", help="always bring up an embedded network")
    group.add_argument("--no-embedded", action="store_true", help="fail when no network is running")


def _add_making(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--name", default="", help="what the suite is called")
    parser.add_argument("--items", type=Path, metavar="FILE", help="JSON lines: prompt, target or targets, choices, id")
    parser.add_argument("--generator", default="", metavar="PACKAGE:DATASET", help="like reasoning-gym:chain_sum")
    parser.add_argument("--item-seed", type=int, default=42, metavar="N", help="of the generator")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="items that the generator makes")
    parser.add_argument("--generate", action="append", default=[], metavar="KEY=VALUE", help="option of the generator")
    parser.add_argument("--scorer", choices=tuple(VERSIONS), default="contains")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="option of the scorer")
    parser.add_argument("--system", default=None, help="system prompt of the suite")
    add_sampling_arguments(parser, without=("logprobs",))  # type: ignore[arg-type]


def run(options: argparse.Namespace, config: Config) -> int:
    wanted = _NAMES[options.action]
    if len(options.names) != wanted:
        raise UsageError(
            f"eval {options.action} takes {wanted} name{'s' if wanted != 1 else ''}, not {len(options.names)}",
            hint="'ndn-infer eval list' shows suites and scores",
        )
    if not 1 <= options.concurrency <= 64 or (options.limit is not None and options.limit < 1):
        raise UsageError("--concurrency is 1 to 64, --limit 1 or more")
    records = {"make": eval_records.make, "list": eval_records.listed, "show": eval_records.show,
               "compare": eval_records.compare}  # fmt: skip
    if options.action in records:
        return records[options.action](options, config)
    return eval_run.run(options, config)
