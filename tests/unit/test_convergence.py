"""Whether routing has converged, read from the texts of `nlsrc lsdb` and `nfdc route list`: testbed/convergence.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.testbed import nfdc_text
from ndn_infer.testbed.convergence import NodeRouting, RouterState, link_state, missing

NET = "/ndn-infer/testbed"
LSDB = """LSDB:
  OriginRouter: /ndn/core-site/%C1.Router/cs/core

    ADJACENCY LSA:
      Origin Router      : /ndn/core-site/%C1.Router/cs/core
      Sequence Number    : 2
      Expires in         : 3594 seconds
      Adjacent(s):
        Adjacent 0: (name=/ndn/edge-site/%C1.Router/cs/edge, uri=udp4://10.0.0.1:6363, cost=10)

    NAME LSA:
      Origin Router      : /ndn/core-site/%C1.Router/cs/core
      Sequence Number    : 9
      Expires in         : 3597 seconds
      Names:
        Name 0: /ndn/core-site/core | Cost: 0
        Name 1: /ndn-infer/testbed/lab/core/decode | Cost: 0

  OriginRouter: /ndn/edge-site/%C1.Router/cs/edge

    NAME LSA:
      Names:
        Name 0: /ndn/edge-site/edge
"""
ROUTES = """prefix=/ndn-infer/testbed/lab/edge/user nexthop=270 origin=client cost=0 flags=child-inherit expires=239s
prefix=/ndn-infer/testbed/lab/core/decode nexthop=262 origin=nlsr cost=10 flags=child-inherit expires=3600s
prefix=/localhost/nfd nexthop=1 origin=app cost=0 flags=child-inherit expires=never
"""


def test_link_state_of_each_router() -> None:
    core, edge = (f"/ndn/{node}-site/%C1.Router/cs/{node}" for node in ("core", "edge"))
    assert link_state(LSDB) == {
        core: RouterState(frozenset({edge}), frozenset({"/ndn/core-site/core", f"{NET}/lab/core/decode"})),
        edge: RouterState(frozenset(), frozenset({"/ndn/edge-site/edge"})),
    }
    assert link_state("error when fetching lsdb: timeout\n") == {}


def test_what_a_node_knows_is_read_from_both_texts() -> None:
    here = NodeRouting.read(ROUTES, LSDB, NET)
    assert here.registered == {f"{NET}/lab/edge/user"}
    assert {f"{NET}/lab/edge/user", f"{NET}/lab/core/decode"} <= here.routed
    assert here.heard["core"].neighbours == {"edge"} and here.heard["edge"].neighbours == frozenset()
    assert NodeRouting.read("", "", NET) == NodeRouting()


TWO = {"core": frozenset({"edge"}), "edge": frozenset({"core"})}
HEARD = {
    "core": RouterState(frozenset({"edge"}), frozenset({"/a", "/b"})),
    "edge": RouterState(frozenset({"core"}), frozenset({"/c"})),
}
ALL = frozenset({"/a", "/b", "/c"})
CONVERGED = {
    "core": NodeRouting(frozenset({"/a", "/b"}), ALL, HEARD),
    "edge": NodeRouting(frozenset({"/c"}), ALL, HEARD),
}


@pytest.mark.parametrize(
    ("edge", "words"),
    [
        (NodeRouting(frozenset({"/c"}), ALL, {**HEARD, "core": RouterState()}), "link core - edge"),
        (
            NodeRouting(frozenset({"/c"}), ALL, {**HEARD, "core": replace(HEARD["core"], prefixes=frozenset())}),
            "edge has not heard that core has /a (2 missing)",
        ),
        (NodeRouting(frozenset({"/c"}), ALL - {"/b"}, HEARD), "edge has no route to /b of core"),
        (NodeRouting(frozenset({"/c", "/d"}), ALL | {"/d"}, HEARD), "core has not heard that edge has /d"),
        (
            NodeRouting(frozenset({"/c"}), ALL, {**HEARD, "core": replace(HEARD["core"], neighbours=ALL)}),
            "link core - /a is there, or is not",
        ),
    ],
)
def test_each_thing_that_is_missing_is_said(edge: NodeRouting, words: str) -> None:
    assert missing(CONVERGED, TWO) == []
    lines = missing({**CONVERGED, "edge": edge}, TWO)
    assert any(words in line for line in lines), lines


def test_a_link_that_is_down_must_be_known_to_be_down() -> None:
    apart = {"core": frozenset[str](), "edge": frozenset[str]()}
    assert any("link core - edge" in line for line in missing(CONVERGED, apart))


def test_beyond_a_cut_nothing_is_missing() -> None:
    """edge went on to register /d, which nobody on the other side can hear of."""
    alone = {node: {**HEARD, node: replace(HEARD[node], neighbours=frozenset())} for node in TWO}
    edge = {**alone["edge"], "edge": RouterState(frozenset(), frozenset({"/c", "/d"}))}
    nodes = {
        "core": NodeRouting(frozenset({"/a", "/b"}), frozenset({"/a", "/b"}), alone["core"]),
        "edge": NodeRouting(frozenset({"/c", "/d"}), frozenset({"/c", "/d"}), edge),
    }
    assert missing(nodes, {"core": frozenset(), "edge": frozenset()}) == []
    assert missing(nodes, TWO) != []


# ---------------------------------------------------------------- any text

WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
NAMES = st.lists(WORDS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
STATES = st.dictionaries(
    NAMES, st.builds(RouterState, st.frozensets(NAMES, max_size=4), st.frozensets(NAMES, max_size=4)), max_size=4
)


def _printed(states: dict[str, RouterState]) -> str:
    """As nlsrc prints it."""
    lines = ["LSDB:"]
    for router, state in states.items():
        lines += [f"  OriginRouter: {router}", "", "    ADJACENCY LSA:", f"      Origin Router      : {router}"]
        for number, name in enumerate(state.neighbours):
            lines.append(f"        Adjacent {number}: (name={name}, uri=udp4://10.0.0.1:6363, cost=10)")
        lines += ["", "    NAME LSA:", "      Names:"]
        lines += [f"        Name {number}: {name} | Cost: 0" for number, name in enumerate(state.prefixes)]
    return "\n".join(lines)


@given(STATES)
def test_what_nlsrc_prints_is_read_back(states: dict[str, RouterState]) -> None:
    assert link_state(_printed(states)) == states


@given(st.text(), st.text())
def test_no_text_is_too_strange(routes: str, lsdb: str) -> None:
    here = NodeRouting.read(routes, lsdb, NET)
    assert here.registered <= here.routed
    nfdc_text.faces(routes, {"10.0.0.1": "core"})
    missing({"edge": here}, {"edge": frozenset()})


@given(st.lists(st.sampled_from(LSDB.splitlines() + ROUTES.splitlines()), max_size=30), st.data())
def test_cut_and_shuffled_texts_are_read_without_error(lines: list[str], data: st.DataObject) -> None:
    text = "\n".join(lines)
    text = text[: data.draw(st.integers(0, len(text)))]
    for state in link_state(text).values():
        assert state.prefixes <= {"/ndn/core-site/core", f"{NET}/lab/core/decode", "/ndn/edge-site/edge"} | {
            name for name in state.prefixes if text.rstrip().endswith(name)
        }
