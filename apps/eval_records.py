"""eval make, list, show and compare: what needs no network, but for records that are only there.

Owns: reading records, and judging them by themselves. Must not know: how anything is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from ndn_infer.apps import eval_words as words
from ndn_infer.apps.eval_suites import made_suite, signed_here, suite_of_score
from ndn_infer.config import Config
from ndn_infer.errors import NdnInferError, StorageError, UsageError
from ndn_infer.evidence.every_eval_ever import exported, paths_of
from ndn_infer.evidence.live.evaluations import matching, misjudged, score_in, suite_in
from ndn_infer.evidence.live.scoring import items_of
from ndn_infer.evidence.live.shelf import SCORE, SUITE, Shelf
from ndn_infer.evidence.live.shipped import GYM, SHIPPED
from ndn_infer.evidence.live.vouched import Vouched
from ndn_infer.evidence.score import paired
from ndn_infer.evidence.statistics import compare as compared
from ndn_infer.files import write_at_once
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node

UNLIKE = 4


def make(options: argparse.Namespace, config: Config) -> int:
    """A suite, signed and kept here; for others with -o, or while 'eval serve' runs."""

    async def work(shelf: Shelf) -> int:
        suite = await made_suite(options, config)
        record = await signed_here(shelf, config, suite)
        path = shelf.keep(SUITE, record)
        if options.output is not None:
            shelf.write(options.output, (record,))
        found = {"name": record.name, "digest": suite.digest, "label": suite.name, "items": suite.count,
                 "file": str(options.output or path)}  # fmt: skip
        lines = [f"{suite.name}: {suite.count} items, scorer {suite.scorer.id} {suite.scorer.version}",
                 f"  suite {suite.digest}", f"  {record.name}", f"  in {found['file']}"]  # fmt: skip
        print(json.dumps(found) if options.json else "\n".join(lines))
        return 0

    return _alone(config, work)


def listed(options: argparse.Namespace, config: Config) -> int:
    async def work(shelf: Shelf) -> int:
        suites = [(one, suite_in(one)) for one in await _readable(shelf, SUITE)]
        scores = [(one, score_in(one)) for one in await _readable(shelf, SCORE)]
        if options.json:
            found = {
                "shipped": [{"word": word, "about": about} for word, (about, _, _) in SHIPPED.items()],
                "suites": [{"name": one.name, "digest": suite.digest, "label": suite.name, "items": suite.count}
                           for one, suite in suites],
                "scores": [{"name": one.name, "suite": score.suite, "label": score.suite_label, "n": score.n,
                            "score": score.score, "model": score.model, "engine": score.engine}
                           for one, score in scores],
            }  # fmt: skip
            print(json.dumps(found))
            return 0
        print("suites that ship")
        for word, (about, _, _) in SHIPPED.items():
            print(f"  {word:24} {about}")
        print(f"  {GYM + ':NAME':24} items that the package makes from a seed, scored by it")
        print("suites here" if suites else "suites here: none; 'ndn-infer eval make' makes one")
        for one, suite in suites:
            print(f"  {_digits(one)}  {suite.name}: {suite.count} items, {suite.scorer.id} {suite.scorer.version}")
        print("scores here, the newest first" if scores else "scores here: none; 'ndn-infer eval run basics' makes one")
        for one, score in scores:
            print(f"  {_digits(one)}  {words.listed(score)}")
        return 0

    return _alone(config, work)


def show(options: argparse.Namespace, config: Config) -> int:
    async def work(shelf: Shelf) -> int:
        there = await shelf.find(options.names[0], SCORE)
        score, wrong = score_in(there[0]), None
        if options.rescore:
            suite = await suite_of_score(options, config, shelf, there)
            wrong = await misjudged(suite, matching(suite, await items_of(suite), score), score)
        if options.export:
            await _export(options, config, shelf, there)
        if options.json:
            document = words.score_json(score, there[0])
            print(json.dumps(document if wrong is None else document | {"misjudged": list(wrong)}, ensure_ascii=False))
        else:
            print("\n".join([*words.score_lines(score, there[0]), *(words.item_lines(score) if options.texts else ())]))
            if wrong is not None:
                print(f"  judged again: {score.n - len(wrong)} of {score.n} values as the record has them"
                      + (f"; others: items {', '.join(wrong[: words.SHOWN])}" if wrong else ""))  # fmt: skip
        return UNLIKE if wrong else 0

    return _with_network(config, options.names, work)


async def _export(options: argparse.Namespace, config: Config, shelf: Shelf, there: list[Vouched]) -> None:
    """Two files below FOLDER, where that project's store has them."""
    form, target = options.export
    if form != "eee":
        raise UsageError(f"there is no export {form!r}, only 'eee'")
    score = score_in(there[0])
    suite = await suite_of_score(options, config, shelf, there)
    whole, lines = exported(score, there[0].name, suite, matching(suite, await items_of(suite), score))
    path, detail = (Path(target) / part for part in paths_of(there[0].name, suite, score))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {path.parent}: {error.strerror}") from error
    write_at_once(detail, lines, mode=0o644)
    write_at_once(path, json.dumps(whole, indent=2, ensure_ascii=False).encode() + b"\n", mode=0o644)
    print(f"wrote {path} and {detail.name}", file=sys.stderr)


def compare(options: argparse.Namespace, config: Config) -> int:
    async def work(shelf: Shelf) -> int:
        a, b = [score_in((await shelf.find(name, SCORE))[0]) for name in options.names]
        found = compared(*paired(a, b))
        print(json.dumps(words.compared_json(a, b, found)) if options.json
              else "\n".join(words.compared_lines(a, b, found)))  # fmt: skip
        return 0

    return _with_network(config, options.names, work)


def _alone(config: Config, work: Callable[[Shelf], Awaitable[int]]) -> int:
    async def run() -> int:
        return await work(Shelf(config, ensure_keys(config)))

    return asyncio.run(run())


def _with_network(config: Config, names: list[str], work: Callable[[Shelf], Awaitable[int]]) -> int:
    """Joined where a record is given by its name and is not a file here."""
    if not any(name.startswith("/") and not Path(name).is_file() for name in names):
        return _alone(config, work)

    async def run() -> int:
        keychain = ensure_keys(config)
        async with await Node.join(config, keychain) as node:
            return await work(Shelf(config, keychain, node))

    return asyncio.run(run())


async def _readable(shelf: Shelf, topic: str) -> list[Vouched]:
    found = []
    for path in shelf.files(topic):
        try:
            found.append((await shelf.read(path, topic))[0])
        except NdnInferError as error:
            print(f"  {path} cannot be read: {error}")
    return found


def _digits(record: Vouched) -> str:
    return record.name.rsplit("/", 1)[-1][:16]
