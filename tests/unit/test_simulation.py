"""The hierarchy of stores under a trace: what is counted, against counts made by hand and against whole forwarders."""

from __future__ import annotations

import json
import random
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ndn_infer.errors import UsageError
from ndn_infer.namespace import KvBlock
from ndn_infer.testbed.bench import trace as bench
from ndn_infer.testbed.simulation import (
    NET,
    UNBOUNDED,
    Assigner,
    Assignment,
    CacheAdmission,
    Counts,
    ForwarderPath,
    Level,
    Naming,
    PromptArrival,
    Setting,
    asked_often,
    distinct_blocks,
    heads,
    read_trace,
    replay,
    replay_clairvoyant,
    replay_timed,
)


def asks(*prompts: tuple[int, ...], every_s: float = 1.0) -> list[PromptArrival]:
    return [PromptArrival(at * every_s, blocks) for at, blocks in enumerate(prompts)]


def chats(seed: int, sessions: int = 30, turns: int = 150) -> list[PromptArrival]:
    """Conversations that grow by some blocks with every turn, as a service's do."""
    rng = random.Random(seed)
    grown: dict[int, tuple[int, ...]] = {}
    found = []
    for at in range(turns):
        session = rng.randrange(sessions)
        old = grown.get(session, ())
        grown[session] = old + tuple(session * 1000 + len(old) + n for n in range(rng.randint(1, 4)))
        found.append(PromptArrival(at * 0.3, grown[session]))
    return found


def lru_hits(requests: list[PromptArrival], capacity: int) -> int:
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for block in (block for request in requests for block in request.blocks):
        hits += block in held
        held[block] = None
        held.move_to_end(block)
        if len(held) > capacity:
            held.popitem(last=False)
    return hits


# ---------------------------------------------------------------- the trace


def test_a_trace_is_read_in_order_of_time() -> None:
    lines = [json.dumps({"timestamp": ms, "input_length": 1, "hash_ids": ids}) for ms, ids in ((500, [1, 2]), (0, [3]))]
    assert read_trace(lines) == [PromptArrival(0.0, (3,)), PromptArrival(0.5, (1, 2))]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "7",
        '{"timestamp": NaN, "hash_ids": [1]}',
        '{"timestamp": 1, "hash_ids": [Infinity]}',
        "[" * 100_000,
        '{"timestamp": 1}',
        '{"timestamp": "x", "hash_ids": []}',
        '{"timestamp": 0, "hash_ids": 5}',
    ],
    ids=range(10),
)
def test_a_line_that_is_no_request_is_named(line: str) -> None:
    with pytest.raises(UsageError, match="line 2 of the trace"):
        read_trace(['{"timestamp": 0, "hash_ids": [1]}', line])


def test_an_empty_trace_is_refused() -> None:
    with pytest.raises(UsageError, match="no request"):
        read_trace(['{"timestamp": 0, "hash_ids": []}'])


def test_what_is_known_of_blocks() -> None:
    requests = asks((1, 2), (1, 2, 3), (4,))
    assert distinct_blocks(requests) == 4
    assert asked_often(requests, 2) == {1, 2}
    assert heads(requests, 1) == {1, 4}


# ---------------------------------------------------------------- stores


@pytest.mark.parametrize("capacity", [1, 7, 40, 10_000])
def test_the_central_store_is_one_lru(capacity: int) -> None:
    requests = chats(1)
    counts = replay(requests, Setting(capacity, edges=0))
    assert (counts.edge_hits, counts.core_hits) == (0, lru_hits(requests, capacity))
    assert counts.origin == counts.asked - counts.core_hits


def test_the_ideal_misses_every_block_once() -> None:
    requests = chats(2)
    counts = replay(requests, Setting(UNBOUNDED, edges=0))
    assert counts.origin == distinct_blocks(requests)
    assert counts.prefix_hits == counts.core_hits


def test_edges_and_core_share_the_capacity_without_rest() -> None:
    for edges in (0, 1, 3, 8):
        for share in (0.0, 0.3, 1.0):
            setting = Setting(101, edges=edges, edge_share=share, segments=2)
            assert edges * setting.edge_packets() + setting.core_packets() == 202
            assert setting.core_packets() >= 0
    assert Setting(100, edges=4, edge_share=0.5).edge_packets() == 12


def test_a_block_goes_to_the_core_for_all_and_to_the_edge_that_asked() -> None:
    requests = asks((1,), (1,), (1,), (1,))
    setting = Setting(100, edges=2, assignment=Assignment.RANDOM, seed=3)
    first, *others = [Assigner(setting).edge_of(request) for request in requests[:1]]
    assigner = Assigner(setting)
    edges = [assigner.edge_of(request) for request in requests]
    assert edges[0] == first and not others and len(set(edges)) == 2, "the seed sends them to both edges"
    counts = replay(requests, setting)
    assert (counts.origin, counts.core_hits, counts.edge_hits) == (1, 1, 2)


def test_stepwise_the_edge_keeps_what_the_core_had() -> None:
    setting = Setting(100, admission=CacheAdmission.STEPWISE)
    found = [replay(asks(*[(1,)] * times), setting) for times in (1, 2, 3)]
    assert [(c.origin, c.core_hits, c.edge_hits) for c in found] == [(1, 0, 0), (1, 1, 0), (1, 1, 1)]


def test_demoted_edge_and_core_hold_nothing_twice() -> None:
    # One edge of 2, a core of 2: four different blocks have room, though the edge was asked for all of them.
    setting = Setting(4, edges=1, admission=CacheAdmission.DEMOTED)
    counts = replay(asks((1, 2, 3, 4), (1, 2, 3, 4)), setting)
    assert (counts.origin, counts.core_hits, counts.edge_hits) == (4, 4, 0)
    everywhere = replay(asks((1, 2, 3, 4), (1, 2, 3, 4)), replace(setting, admission=CacheAdmission.EVERYWHERE))
    assert everywhere.origin == 8


def test_one_demoting_edge_is_as_good_as_one_store() -> None:
    requests = chats(3)
    for capacity in (10, 40, 80):
        counts = replay(requests, Setting(capacity, edges=1, admission=CacheAdmission.DEMOTED))
        assert counts.edge_hits + counts.core_hits == lru_hits(requests, capacity)


def test_hits_after_a_miss_are_no_prefix_hits() -> None:
    counts = Counts()
    counts.add(0, [Level.EDGE, Level.ORIGIN, Level.CORE, Level.EDGE])
    assert (counts.prefix_hits, counts.edge_hits, counts.core_hits, counts.origin) == (1, 2, 1, 1)
    counts.add(1, [Level.CORE, Level.CORE])
    assert counts.prefix_hits == 3 and counts.hit_share == 5 / 6 and counts.by_edge == {0: 4, 1: 2}


def test_requests_before_the_count_fill_the_stores() -> None:
    counts = replay(asks((1, 2), (1, 2)), Setting(100), counted_from=1)
    assert (counts.asked, counts.origin) == (2, 0)


def test_an_object_of_several_packets_is_a_hit_when_all_of_it_is() -> None:
    requests = chats(4)
    whole, parts = (replay(requests, Setting(60, segments=number)) for number in (1, 5))
    assert parts.asked == whole.asked and abs(parts.hit_share - whole.hit_share) < 0.02


def test_a_protected_class_outlives_a_flood() -> None:
    flood = [(number,) for number in range(100, 160)]
    requests = asks((1, 2), *flood, (1, 2))
    plain = Setting(20, edges=0)
    assert replay(requests, plain).core_hits == 0
    assert replay(requests, replace(plain, hot=frozenset({1, 2}))).core_hits == 2


def test_names_are_those_of_kv_blocks() -> None:
    naming = Naming(Setting(1, hot=frozenset({7}), segments=2))
    found = [KvBlock.parse_prefix(NET, naming.names(block)[0]) for block in (6, 7)]
    assert [kind and kind[0].domain for kind in found] == ["public", "hot"]
    (protected,) = naming.protected()
    assert naming.names(7)[1].startswith(protected) and not naming.names(6)[1].startswith(protected)
    assert len({*naming.names(6), *naming.names(7)}) == 4


# ---------------------------------------------------------------- assignment


def test_sessions_stay_at_their_edge() -> None:
    requests = chats(5)
    for assignment in (Assignment.SESSION, Assignment.AFFINITY):
        assigner = Assigner(Setting(1, edges=4, assignment=assignment))
        homes: dict[int, set[int]] = {}
        for request in requests:
            homes.setdefault(request.blocks[0], set()).add(assigner.edge_of(request))
        assert all(len(edges) == 1 for edges in homes.values())
        assert len(set.union(*homes.values())) == 4


def test_affinity_sends_new_prompts_to_the_edge_that_served_least() -> None:
    assigner = Assigner(Setting(1, edges=2, assignment=Assignment.AFFINITY))
    edges = [assigner.edge_of(request) for request in asks((1, 2, 3), (4,), (5,), (1, 2, 9))]
    assert edges == [0, 1, 1, 0]


# ---------------------------------------------------------------- whole forwarders


@pytest.mark.parametrize("edges", [0, 1, 3])
@pytest.mark.parametrize("assignment", list(Assignment))
def test_whole_forwarders_count_as_stores_do(edges: int, assignment: Assignment) -> None:
    requests = chats(6)
    setting = Setting(40, edges=edges, assignment=assignment)
    stores = replay(requests, setting)
    assert stores == replay(requests, setting, join=ForwarderPath)
    assert 0 < stores.origin < stores.asked


def test_whole_forwarders_know_protected_classes() -> None:
    requests = chats(7)
    setting = Setting(40, hot=asked_often(requests, 4))
    assert replay(requests, setting) == replay(requests, setting, join=ForwarderPath)
    assert replay(requests, setting) != replay(requests, replace(setting, hot=frozenset()))


def test_interests_at_the_same_time_are_joined() -> None:
    requests = [PromptArrival(0.0, (1, 2)), PromptArrival(0.0, (1, 2)), PromptArrival(9.0, (1, 2))]
    counts = replay_timed(requests, Setting(100), edge_delay_s=0.01, origin_delay_s=0.1)
    assert (counts.asked, counts.origin, counts.joined, counts.edge_hits) == (6, 2, 2, 2)


def test_time_passes_with_the_trace() -> None:
    requests = chats(8)
    counts = replay_timed(requests, Setting(UNBOUNDED, edges=2), edge_delay_s=0.001, origin_delay_s=0.005)
    assert counts.origin == distinct_blocks(requests)
    assert counts.asked == counts.edge_hits + counts.core_hits + counts.origin + counts.joined


# ---------------------------------------------------------------- the future known


def test_nothing_beats_the_clairvoyant() -> None:
    # Textbook case: 1 2 3 1 2 in a store of 2. LRU has no hit; keeping 1 and 2 and not 3 has both.
    assert replay_clairvoyant(asks((1,), (2,), (3,), (1,), (2,)), 2) == 2 / 5
    requests = chats(9)
    ideal = replay(requests, Setting(UNBOUNDED, edges=0)).hit_share
    for capacity in (5, 20, 60):
        best = replay_clairvoyant(requests, capacity)
        assert replay(requests, Setting(capacity, edges=0)).hit_share <= best <= ideal
    assert replay_clairvoyant(requests, UNBOUNDED) == ideal


# ---------------------------------------------------------------- the bench


def test_the_plot_has_a_line_for_every_curve() -> None:
    percents = (1, 10, 100)
    curves = {curve: [0.1, 0.2, 0.3 + at / 100] for at, curve in enumerate(bench.LINES)}
    text = bench.svg(percents, curves, 0.5)
    lines = ElementTree.fromstring(text).findall("{http://www.w3.org/2000/svg}polyline")
    ends = [float(line.attrib["points"].split()[-1].split(",")[1]) for line in lines]
    assert len(lines) == len(bench.LINES) and ends == sorted(ends, reverse=True)
    assert text == bench.svg(percents, curves, 0.5)


def test_a_trace_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"cannot read the trace .*nowhere") as caught:
        bench.load(tmp_path / "nowhere.jsonl")
    assert "--trace FILE" in caught.value.hint
    monkeypatch.setattr(bench, "PLACES", (tmp_path / "neither",))
    with pytest.raises(UsageError, match="no trace"):
        bench.load(None)
