"""Records of suites and scores in files, journals of runs, and what runs in a process beside ours; no network."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path

import pytest

from ndn_infer import config as configuration
from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.errors import NdnInferError, UsageError
from ndn_infer.evidence.every_eval_ever import exported, paths_of
from ndn_infer.evidence.live import scoring
from ndn_infer.evidence.live.evaluations import (
    matching,
    misjudged,
    score_in,
    suite_in,
    vouch_score,
    vouch_suite,
)
from ndn_infer.evidence.live.run_journal import RunJournal
from ndn_infer.evidence.live.shelf import SCORE, SUITE, Shelf
from ndn_infer.evidence.live.shipped import SHIPPED, from_generator, generator_of, of_digest, shipped
from ndn_infer.evidence.score import ItemOutcome, NamedAnswer, Score, ids_digest
from ndn_infer.evidence.scorers import Scorer
from ndn_infer.evidence.suite import Item, Suite
from ndn_infer.node.keys import USER, ensure_keys, role_identity
from ndn_infer.records import Sampling

NET = "/ndn-infer/records"


def shelf_in(folder: Path, net: str = NET) -> Shelf:
    config: Config = configuration.load(environment={}, flags=[f"paths.data_dir={folder}", f"network.net={net}"])
    return Shelf(config, ensure_keys(config))


def suite_of(count: int) -> Suite:
    items = tuple(Item(str(place), f"Say {place}. {'x' * 200}", (str(place),)) for place in range(count))
    return Suite("numbers", Scorer("contains"), Sampling(8), items)


def score_of(suite: Suite) -> Score:
    outcomes = tuple(
        ItemOutcome(item.id, float(place % 2 == 0),
                    (NamedAnswer(f"/n/model/m/result/generate/{place}/v=1", ids_digest([place]), 5, 3),),
                    item.id if place % 2 == 0 else "?", finish="stop", seconds=0.25)
        for place, item in enumerate(suite.items)
    )  # fmt: skip
    return Score(suite.digest, suite.name, "contains 1", "a" * 64, "small", "bf16", outcomes, 10**15, 10**15 + 5)


def vouched(shelf: Shelf, count: int) -> tuple[Path, Score]:
    suite = suite_of(count)
    signer = shelf.keychain.signer_for(role_identity(shelf.config, USER))
    net = ndn.from_uri(shelf.config.network.net)
    record, score = vouch_suite(net, signer, suite), score_of(suite)
    return shelf.keep(SCORE, vouch_score(net, signer, score), (record,)), score


@pytest.mark.parametrize("count", [2, 400])
async def test_a_record_in_a_file_is_verified_without_the_network(tmp_path: Path, count: int) -> None:
    """400 items take more segments than the metadata packet has room for digests."""
    shelf = shelf_in(tmp_path)
    path, score = vouched(shelf, count)
    first, second = await shelf.read(path, SCORE)
    assert score_in(first) == score and suite_in(second) == suite_of(count)
    assert first.signer == role_identity(shelf.config, USER)
    for reference in (str(path), first.name, path.stem[:8], "last"):
        assert (await shelf.find(reference, SCORE))[0].wire == first.wire
    with pytest.raises(UsageError, match="there is no suite"):
        await shelf.find("numbers", SUITE)
    shelf.keep(SUITE, second)
    shelf.folder.joinpath(SUITE, f"{'0' * 64}.ndn").write_bytes(b"damaged")
    assert (await shelf.find("numbers", SUITE))[0].wire == second.wire
    with pytest.raises(UsageError, match="holds a score, not a suite"):
        await shelf.find(str(path), SUITE)
    with pytest.raises(UsageError, match="there is no score"):
        await shelf.find("no-such", SCORE)


async def test_a_record_that_was_changed_anywhere_is_refused(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    path, score = vouched(shelf, 3)
    whole, source = path.read_bytes(), random.Random(5)
    certificates = sum(len(one.data.wire) for one in shelf.keychain.certificates())
    for _ in range(150):
        place = source.randrange(len(whole) - certificates)
        path.write_bytes(whole[:place] + bytes((whole[place] ^ (1 << source.randrange(8)),)) + whole[place + 1 :])
        try:
            found = await shelf.read(path, SCORE)
        except NdnInferError:
            continue
        assert (score_in(found[0]), [suite_in(one) for one in found[1:]]) == (score, [suite_of(3)]), place
    for cut in (0, 1, 100, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(NdnInferError):
            await shelf.read(path, SCORE)


async def test_a_record_of_another_network_is_refused(tmp_path: Path) -> None:
    path, _ = vouched(shelf_in(tmp_path / "a", "/other/net"), 2)
    with pytest.raises(NdnInferError):
        await shelf_in(tmp_path / "b").read(path, SCORE)


async def test_a_score_that_its_scorer_did_not_give_is_found_without_asking_anybody(tmp_path: Path) -> None:
    suite = suite_of(6)
    score = score_of(suite)
    assert await misjudged(suite, matching(suite, suite.items, score), score) == ()
    better = tuple(dataclasses.replace(one, value=1.0) for one in score.outcomes)
    forged = dataclasses.replace(score, outcomes=better)
    assert await misjudged(suite, suite.items, forged) == ("1", "3", "5")


def test_an_interrupted_run_goes_on_and_a_finished_one_is_forgotten(tmp_path: Path) -> None:
    outcomes = score_of(suite_of(5)).outcomes
    journal = RunJournal.of(tmp_path, "suite", "model")
    for outcome in outcomes[:3]:
        journal.add(outcome, "class")
    with journal.path.open("ab") as file:
        file.write(b'{"engine": "class", "outcome": {"id": "9')
    again = RunJournal.of(tmp_path, "suite", "model")
    assert list(again.outcomes.values()) == list(outcomes[:3]) and again.engines == {"class"}
    assert RunJournal.of(tmp_path, "suite", "other").outcomes == {}
    again.add(outcomes[3], "class")  # behind what was only begun
    assert list(RunJournal.of(tmp_path, "suite", "model").outcomes.values()) == list(outcomes[:4])
    again.over()
    assert RunJournal.of(tmp_path, "suite", "model").outcomes == {}


async def test_patterns_run_elsewhere_and_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    items = (Item("0", "?", ("^pa.is$", "x")), Item("1", "?", ("b{2}",)))
    suite = Suite("patterns", Scorer("regex"), Sampling(8), items)
    assert await scoring.values_of(suite, items, ["Paris", "ab"]) == [1.0, 0.0]
    with pytest.raises(UsageError, match="a pattern of the suite is none"):
        await scoring.values_of(suite, (Item("0", "?", ("(",)),), [""])
    monkeypatch.setattr(scoring, "PATTERNS_S", 0.0)
    evil = (Item("0", "?", ("(a+)+b",)),)
    with pytest.raises(UsageError, match="took more than"):
        await asyncio.wait_for(scoring.values_of(suite, evil, ["a" * 60]), 60)


@pytest.mark.parametrize("word", sorted(SHIPPED))
def test_suites_that_ship_can_be_run_and_are_found_by_their_digest(word: str) -> None:
    suite = shipped(word)
    assert suite is not None and suite.count >= 20
    suite.check()
    assert of_digest(suite.digest) == suite and Suite.read(_json(suite)) == suite


def _json(suite: Suite):  # type: ignore[no-untyped-def]
    from ndn_infer.evidence.json_fields import JsonObject

    return JsonObject(suite.as_json(), "suite")


@pytest.mark.slow
async def test_items_of_a_generator_are_those_that_the_suite_says() -> None:
    pytest.importorskip("reasoning_gym")
    suite = await from_generator(generator_of("reasoning-gym:chain_sum", 42, 5, {}), Sampling(16))
    items = await scoring.items_of(suite)
    right = [f"so <answer>{item.targets[0]}</answer>" for item in items[:3]]
    values = await scoring.values_of(suite, items, [*right, "no idea", ""])
    assert values[:3] == [1.0] * 3 and max(values[3:]) < 0.5
    assert suite.generator is not None
    other = dataclasses.replace(suite, generator=dataclasses.replace(suite.generator, items="b" * 64))
    with pytest.raises(UsageError, match="other items"):
        await scoring.items_of(other)
    with pytest.raises(UsageError, match="makes no os"):
        await from_generator(generator_of("reasoning-gym:os", 42, 5, {}), Sampling(16))


async def test_only_known_packages_make_items() -> None:
    with pytest.raises(UsageError, match="no generator of package 'os'"):
        await from_generator(generator_of("os:system", 1, 1, {}), Sampling(16))


def test_an_export_has_a_place_and_a_line_for_each_item() -> None:
    suite = suite_of(4)
    score = score_of(suite)
    document, lines = exported(score, "/n/score", suite, suite.items)
    whole, detail = paths_of("/n/score", suite, score)
    assert document["detailed_evaluation_results"]["file_path"] == detail and lines.count(b"\n") == 4
    assert whole.startswith("data/numbers/unknown/small/") and detail == whole.replace(".json", "_samples.jsonl")
    assert document["evaluation_results"][0]["score_details"]["score"] == 0.5
