"""Topology files, shortest paths and routes: testbed/topology.py."""

from __future__ import annotations

import configparser
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.functions import registry
from ndn_infer.testbed import topology as paths
from ndn_infer.testbed import topology_file as topologies
from ndn_infer.testbed.delay_link import Shaper
from ndn_infer.testbed.namespaces import Namespaces
from ndn_infer.testbed.topology import MAX_LINKS, LinkSpec, NodeSpec, Topology, TopologyError, Way
from ndn_infer.testbed.topology_file import parse

SQUARE = """
[nodes]
a: _
b: functions=decode,tokenize radius=0.5
c: _
d:
[links]
a:b delay=10ms bw=10
b:c delay=10ms
a:d delay=1ms
d:c delay=1ms loss=0.5
"""


def test_packaged_topologies_are_in_order() -> None:
    assert "three_nodes" in topologies.available()
    for name in topologies.available():
        assert topologies.load(name).name == name


def test_three_nodes_is_what_the_documents_say() -> None:
    found = topologies.load("three_nodes")
    assert {node.name: node.functions for node in found.nodes} == {
        "edge": (), "core": ("tokenize", "decode"), "compute": ("prefill", "embed"),
    }  # fmt: skip
    assert found.consumer == "edge"
    assert [(link.first, link.second, link.delay_us, link.bandwidth_mbit) for link in found.links] == [
        ("edge", "core", 10_000, 100.0),
        ("core", "compute", 5_000, 100.0),
    ]


@pytest.mark.parametrize("name", topologies.available())
def test_mini_ndn_reads_the_same_file_alike(name: str) -> None:
    """Mini-NDN uses configparser with a blank as delimiter; its nodes and links are ours."""
    theirs = configparser.ConfigParser(delimiters=" ", allow_no_value=True)
    theirs.read(topologies.available()[name])
    ours = topologies.load(name)
    for (label, text), node in zip(theirs.items("nodes"), ours.nodes, strict=True):
        given = dict(word.split("=") for word in (text or "").split(" ") if word != "_")
        assert (label.split(":")[0], given.get("functions", "")) == (node.name, ",".join(node.functions))
    for (ends, text), link in zip(theirs.items("links"), ours.links, strict=True):
        assert ends.split(":") == [link.first, link.second]
        given = dict(word.split("=") for word in text.split(" "))
        assert int(given["delay"].removesuffix("ms")) * 1000 == link.delay_us


def test_links_and_parameters() -> None:
    square = parse(SQUARE)
    assert square.node("b").functions == ("decode", "tokenize")
    assert square.node("b").parameters["radius"] == "0.5"
    assert square.links[0] == LinkSpec("a", "b", delay_us=10_000, bandwidth_mbit=10.0, cost=10)
    assert square.links[3].loss_percent == 0.5
    assert square.consumer == "a"


def test_a_node_may_have_processors_of_its_own() -> None:
    network = Namespaces(parse("[nodes]\na: cores=0-1,3\nb\n[links]\na:b"))
    assert network.enter("a")[4:] == ["taskset", "-c", "0-1,3"] and network.enter("b")[4:] == []
    for wrong in ("x", "1-", "0;true", "1,,2", ""):
        with pytest.raises(TopologyError, match="cores"):
            parse(f"[nodes]\na: cores={wrong}\nb\n[links]\na:b")


def test_paths_follow_the_delay_not_the_number_of_hops() -> None:
    square = parse(SQUARE)
    assert paths.shortest_paths(square, "b") == {"a": Way("a", 10), "c": Way("c", 10), "d": Way("a", 11)}
    assert paths.shortest_paths(square, "a")["c"] == Way("d", 2)


def test_cost_overrules_delay() -> None:
    found = parse("[nodes]\na\nb\n[links]\na:b delay=10ms cost=3")
    assert paths.shortest_paths(found, "a")["b"].cost == 3


def test_every_node_gets_routes_to_what_the_others_offer() -> None:
    square = parse(SQUARE)
    table = paths.forwarding(square, {"b": ["/n/kv", "/n/b"], "c": ["/n/kv"]})
    assert table["a"] == {"/n/kv": {"b": 10, "d": 2}, "/n/b": {"b": 10}}
    assert table["b"] == {"/n/kv": {"c": 10}}  # its own applications are no route
    assert table["d"] == {"/n/kv": {"a": 11, "c": 1}, "/n/b": {"a": 11}}


def test_one_next_hop_for_several_targets_has_the_lowest_cost() -> None:
    row = parse("[nodes]\na\nb\nc\n[links]\na:b delay=4ms\nb:c delay=3ms")
    assert paths.forwarding(row, {"b": ["/p"], "c": ["/p"]})["a"] == {"/p": {"b": 4}}


def test_addresses_are_unique_and_pairs_share_a_slash_30() -> None:
    square = parse(SQUARE)
    pairs = [square.addresses(link) for link in square.links]
    everything = [address for pair in pairs for address in pair]
    assert len(set(everything)) == len(everything)
    for first, second in pairs:
        assert int(first) >> 2 == int(second) >> 2
        assert {int(first) & 3, int(second) & 3} == {1, 2}


MINI_NDN = """
# A comment; Mini-NDN reads names in lower case.
[nodes]
Stockholm: _ radius=15.7 angle=0.7,0.05
MUMBAI_AWS: _ network=/world router=/m.Router/
4ward: nfd-log-level=DEBUG nlsr-log-level=INFO
[switches]
[faces]
[cars]
[links]
Stockholm:MUMBAI_AWS delay=100ms jitter=2.5ms max_queue_size=50
MUMBAI_AWS:4ward bw=1000 loss=0.1
"""


def test_what_mini_ndn_can_say_is_read_as_mini_ndn_reads_it() -> None:
    found = parse(MINI_NDN)
    assert [node.name for node in found.nodes] == ["stockholm", "mumbai_aws", "4ward"]
    assert found.links == (
        LinkSpec("stockholm", "mumbai_aws", delay_us=100_000, jitter_us=2_500, queue_packets=50, cost=100),
        LinkSpec("mumbai_aws", "4ward", bandwidth_mbit=1000.0, loss_percent=0.1, cost=1),
    )


def test_the_functions_of_a_topology_are_producers_of_ours() -> None:
    assert set(topologies.FUNCTIONS) <= set(registry.SPECS)
    for name in topologies.available():
        for node in topologies.load(name).nodes:
            assert not node.functions or registry.known(node.functions) == list(node.functions)


def test_some_layers_of_a_model_are_a_function_too() -> None:
    line = parse("[nodes]\na: functions=tokenize,stage:0-9\nb: functions=decode:10-29,prefill\n[links]\na:b")
    assert line.roles() == {"tokenize": "a", "stage": "a", "decode": "b", "prefill": "b"}
    with pytest.raises(TopologyError, match="no node has functions=prefill"):
        parse("[nodes]\na: functions=tokenize\nb: functions=decode\n[links]\na:b").roles()


def test_what_is_not_in_a_topology_is_named() -> None:
    square = parse(SQUARE)
    square.check("b", "decode")
    for node, function in (("x", ""), ("b", "prefill"), ("a", "decode")):
        with pytest.raises(TopologyError):
            square.check(node, function)
    assert square.link_between("b", "a") == square.links[0]
    with pytest.raises(TopologyError, match="a and c are not linked"):
        square.link_between("a", "c")


PAIR = "[nodes]\na\nb\n[links]\na:b "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: _", "x.conf:1: 'a: _' stands before"),
        ("[nodes]\na\n[switches]\ns1", "x.conf:4: [switches] must be empty, not 's1': nodes are linked directly"),
        ("[stations]\nsta1: range=50", "x.conf:2: [stations] must be empty, not 'sta1:': this is Mini-NDN-WiFi"),
        ("[nodes]\na\n[link]", "x.conf:3: sections are [nodes] and [links], not [link]; did you mean 'links'?"),
        ("[nodes]\n_a: _", "x.conf:2: a node's name"),
        (f"[nodes]\n{33 * 'a'}: _", "x.conf:2: a node's name"),
        ("[nodes]\na\nb\nA", "x.conf:4: node 'a' is there twice"),
        ("[nodes]\na functions", "x.conf:2: expected key=value, not 'functions'"),
        ("[nodes]\na: function=decode", "x.conf:2: unknown node parameter 'function'; did you mean 'functions'?"),
        ("[nodes]\na: functions=decode,prefil", "x.conf:2: unknown function 'prefil'; did you mean 'prefill'?"),
        ("[nodes]\na: functions=rag", "x.conf:2: unknown function 'rag'"),
        ("[nodes]\na: functions=stage:0", "x.conf:2: unknown function 'stage:0'"),
        ("[nodes]\na\nb\n[links]\na-b", "x.conf:5: a link is written"),
        ("[nodes]\nalpha\nb\n[links]\n\n# far\nalpa:b", "x.conf:7: no node 'alpa' in [nodes]; did you mean 'alpha'?"),
        ("[nodes]\na\nb\n[links]\na:a", "x.conf:5: a is linked to itself"),
        (PAIR + "\nb:a", "x.conf:6: b and a are linked already"),
        (PAIR + "dealy=500ms", "x.conf:5: unknown link option 'dealy'; did you mean 'delay'?"),
        (PAIR + "delay=5ms delay=6ms", "x.conf:5: delay is there twice"),
        (PAIR + "use_hfsc=True", "x.conf:5: use_hfsc is an option of Mininet's own links"),
        (PAIR + "delay=10", "x.conf:5: delay is a number with"),
        (PAIR + "delay=61s", "x.conf:5: delay is at most 60 s"),
        (PAIR + "delay=1ms jitter=2ms", "x.conf:5: jitter is at most the delay"),
        (PAIR + "bw=fast", "x.conf:5: bw is a number"),
        (PAIR + "loss=101", "x.conf:5: loss is a number between 0 and 100"),
        (PAIR + "max_queue_size=0", "x.conf:5: max_queue_size is a whole number between 1 and 1,000,000"),
        (PAIR + "cost=1.5", "x.conf:5: cost is a whole number between 1 and"),
        ("[nodes]\na\nb\nc\n[links]\na:b", "x.conf: no path from a to c"),
        ("[nodes]\na", "x.conf: a topology has two nodes"),
        ("", "x.conf: a topology has two nodes"),
    ],
)
def test_errors_name_the_line_and_the_nearest_right_word(text: str, message: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(text, "x.conf")
    assert str(caught.value).startswith(message)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_everybody_busy_means_nobody_asks() -> None:
    found = parse("[nodes]\na: functions=decode\nb: functions=prefill\n[links]\na:b")
    with pytest.raises(TopologyError, match="no node is left to ask"):
        _ = found.consumer


def test_unknown_topology_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(TopologyError) as caught:
        topologies.load(str(tmp_path / "nowhere.conf"))
    assert "three_nodes" in caught.value.hint


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "bad.conf"
    path.write_bytes(b"[nodes]\n\xff\xfe")
    with pytest.raises(TopologyError, match="cannot read"):
        topologies.load(str(path))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "no/such/file"])
def test_what_can_be_no_file_is_no_topology(name: str) -> None:
    with pytest.raises(TopologyError) as caught:
        topologies.load(name)
    assert len(str(caught.value)) < 400


def test_more_links_than_addresses_are_refused_where_the_first_of_them_stands() -> None:
    names = [f"n{number}" for number in range(200)]
    links = [f"{first}:{second}" for first, second in itertools.combinations(names, 2)]
    text = "\n".join(["[nodes]", *names, "[links]", *links])
    with pytest.raises(TopologyError, match=f"topology:{2 + len(names) + MAX_LINKS + 1}: more links than addresses"):
        parse(text)


@given(st.text(alphabet="[]nodesliksabc:_=#0.1m \n", max_size=200))
def test_any_text_gives_a_topology_or_a_topology_error(text: str) -> None:
    try:
        found = parse(text)
    except TopologyError:
        return
    assert len(found.nodes) >= 2


@st.composite
def connected(draw: st.DrawFn) -> Topology:
    names = [f"n{number}" for number in range(draw(st.integers(2, 5)))]
    ends = {(names[draw(st.integers(0, index - 1))], names[index]) for index in range(1, len(names))}
    ends |= set(draw(st.lists(st.sampled_from(list(itertools.combinations(names, 2))), max_size=4)))
    links = [LinkSpec(first, second, cost=draw(st.integers(1, 9))) for first, second in sorted(ends)]
    return Topology("drawn", tuple(NodeSpec(name) for name in names), tuple(links))


@given(connected())
def test_dijkstra_agrees_with_trying_every_path(found: Topology) -> None:
    costs = {frozenset((link.first, link.second)): link.cost for link in found.links}
    names = [node.name for node in found.nodes]
    for source in names:
        ways = paths.shortest_paths(found, source)
        assert set(ways) == set(names) - {source}
        for target, way in ways.items():
            best = min(_all_costs(costs, source, target, names))
            assert way.cost == best
            rest = 0 if way.next_hop == target else paths.shortest_paths(found, way.next_hop)[target].cost
            assert costs[frozenset((source, way.next_hop))] + rest == best  # the next hop is on a shortest path


def _all_costs(costs: dict[frozenset[str], int], source: str, target: str, names: list[str]) -> list[int]:
    between = [name for name in names if name not in (source, target)]
    found = []
    for count in range(len(between) + 1):
        for middle in itertools.permutations(between, count):
            steps = [frozenset(pair) for pair in itertools.pairwise((source, *middle, target))]
            if all(step in costs for step in steps):
                found.append(sum(costs[step] for step in steps))
    return found


# ---------------------------------------------------------------- delay, bandwidth and loss in user space


def _drain(shaper: Shaper, until: float, step: float = 0.001) -> list[tuple[float, bytes]]:
    """(time, frame) of all that leaves, looking every millisecond of virtual time."""
    found, now = [], 0.0
    while now <= until:
        found += [(now, frame) for frame in shaper.due(now)]
        now += step
    return found


def test_frames_come_out_after_the_delay_and_in_order() -> None:
    shaper = Shaper(delay_s=0.010)
    for number in range(5):
        shaper.put(bytes([number]), number * 0.001)
    assert shaper.due(0.0099) == []
    assert shaper.next_wake() == pytest.approx(0.010)
    assert [frame for _, frame in _drain(shaper, 0.1)] == [bytes([number]) for number in range(5)]
    assert shaper.next_wake() is None


def test_bandwidth_spaces_frames_and_recovers_after_a_pause() -> None:
    shaper = Shaper(delay_s=0.005, bytes_per_s=100_000)
    for _ in range(3):
        shaper.put(b"x" * 1000, 0.0)  # 10 ms each on the wire
    assert [shaper.due(when) != [] for when in (0.0149, 0.0151, 0.0249, 0.0251, 0.0351)] == [
        False, True, False, True, True,
    ]  # fmt: skip
    shaper.put(b"x" * 1000, 1.0)
    assert shaper.next_wake() == pytest.approx(1.015)  # an idle link saves nothing up


def test_loss_is_that_share_and_repeats_with_its_seed() -> None:
    def kept(seed: int) -> list[bytes]:
        shaper = Shaper(loss=0.2, seed=seed)
        for number in range(2000):
            shaper.put(number.to_bytes(2, "big"), 0.0)
        return shaper.due(0.0)

    assert kept(1) == kept(1) != kept(2)
    assert 0.75 < len(kept(1)) / 2000 < 0.85


def test_jitter_is_around_the_delay_and_lets_frames_overtake() -> None:
    shaper = Shaper(delay_s=0.010, jitter_s=0.005)
    for number in range(100):
        shaper.put(bytes([number]), 0.0)
    found = _drain(shaper, 0.1)
    assert sorted(frame for _, frame in found) == [bytes([number]) for number in range(100)]
    assert 0.005 <= found[0][0] < 0.007 and 0.013 < found[-1][0] <= 0.016
    assert [frame for _, frame in found] != sorted(frame for _, frame in found)


def test_a_full_queue_drops() -> None:
    shaper = Shaper(delay_s=1.0, limit=3)
    for number in range(5):
        shaper.put(bytes([number]), 0.0)
    assert shaper.due(2.0) == [b"\0", b"\1", b"\2"]
    assert shaper.dropped == 2
