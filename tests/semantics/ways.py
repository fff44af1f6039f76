"""Scope, forwarding hints, Nacks, strategies."""

from __future__ import annotations

from tests.forwarder_world import data, interest, link, nack
from tests.semantics.scenario import ASF, BEST_ROUTE, DA, MULTICAST, A, Scenario, SetStrategy, register

SCENARIOS = [
    # ------------------------------------------------------------ scope
    Scenario("/localhost from a non-local face is dropped (NFD onIncomingInterest)", [
        (0, "P", interest("/localhost/x"), [])], routes=[("/localhost/x", "p", 0)]),
    Scenario("/localhost does not leave the host (NFD wouldViolateScope)", [
        (0, "c", interest("/localhost/x"), [])], routes=[("/localhost/x", "P", 0)]),
    Scenario("/localhost Data from a non-local face is dropped (NFD onIncomingData)", [
        (0, "c", interest("/localhost/x"), ["p<I/localhost/x#1"]), (0.1, "P", data("/localhost/x"), [])],
        routes=[("/localhost/x", "p", 0)]),
    Scenario("/localhop from here may leave the host (NFD wouldViolateScope)", [
        (0, "c", interest("/localhop/x"), ["P<I/localhop/x#1"])], routes=[("/localhop/x", "P", 0)]),
    Scenario("/localhop from elsewhere stays here (NFD wouldViolateScope)", [
        (0, "Q", interest("/localhop/x"), ["p<I/localhop/x#1"])], faces="pPQ",
        routes=[("/localhop/x", "P", 0), ("/localhop/x", "p", 5)]),
    # ------------------------------------------------------------ ForwardingHint
    Scenario("a ForwardingHint decides the way (PF ForwardingHint)", [
        (0, "c", interest("/a/b", hints=["/isp"]), ["P<I/a/b#1 via=/isp"])], routes=[("/a", "p", 0), ("/isp", "P", 0)]),
    Scenario("the first delegation that can be reached (NFD lookupFib)", [
        (0, "c", interest("/a/b", hints=["/none", "/isp"]), ["P<I/a/b#1 via=/none via=/isp"])],
        routes=[("/a", "p", 0), ("/isp", "P", 0)]),
    Scenario("no delegation can be reached: no route (NFD lookupFib)", [
        (0, "c", interest("/a/b", hints=["/none"]), ["c<N150/a/b#1 via=/none"])]),
    Scenario("in the producer region the name decides (NFD NetworkRegionTable)", [
        (0, "c", interest("/a/b", hints=["/isp/r1"]), ["p<I/a/b#1"])],
        routes=[("/a", "p", 0), ("/isp", "P", 0)], regions=("/isp/r1/host",)),
    Scenario("Interests with other hints are not aggregated (NFD Pit)", [
        (0, "c", interest("/a/b", 1, hints=["/isp"]), ["P<I/a/b#1 via=/isp"]),
        (0, "c", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.1, "P", DA, ["c<D/a/b"])], routes=[("/a", "p", 0), ("/isp", "P", 0)]),
    # ------------------------------------------------------------ Nack
    Scenario("a Nack of the only upstream goes to all who wait (NFD ProcessNackTraits)", [
        (0, "c", link(A, pit_token=b"\5"), ["p<I/a/b#1"]), (0.005, "P", interest("/a/b", 2), []),
        (0.1, "p", nack(A, 150), ["P<N150/a/b#2", "c<N150/a/b#1 t=05"])]),
    Scenario("the least severe reason goes on (NFD isLessSevere)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.02, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.03, "p", nack(A, 150), []), (0.04, "q", nack(interest("/a/b", 2), 50), ["c<N50/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("no reason is the most severe (NFD isLessSevere)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.02, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.03, "p", nack(A, 0), []), (0.04, "q", nack(interest("/a/b", 2), 150), ["c<N150/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("a Nack with another nonce is dropped (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(interest("/a/b", 9), 150), []), (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("a Nack from a face that was not asked is dropped (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "P", nack(A, 150), []), (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("two that wait for each other are told (NFD ProcessNackTraits)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.02, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.03, "q", interest("/a/b", 3), []), (0.04, "p", nack(A, 150), ["q<N150/a/b#3"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("after a Nack the same name may be asked again at once (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.001, "p", nack(A, 150), ["c<N150/a/b#1"]),
        (0.002, "c", interest("/a/b", 2), ["p<I/a/b#2"])]),
    # ------------------------------------------------------------ multicast
    Scenario("multicast asks everybody (NFD MulticastStrategy)", [
        (0, "c", A, ["p<I/a/b#1", "q<I/a/b#1"])], faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)],
        strategy=("/a", MULTICAST)),
    Scenario("multicast suppresses an upstream at a time (NFD decidePerUpstream)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.005, "p", interest("/a/b", 2), ["c<I/a/b#2"]),
        (0.011, "q", interest("/a/b", 3), ["p<I/a/b#3"]), (0.016, "q", interest("/a/b", 4), ["c<I/a/b#4"]),
        (0.025, "q", interest("/a/b", 5), []), (0.032, "q", interest("/a/b", 6), ["p<I/a/b#6"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "c", 1)], strategy=("/a", MULTICAST)),
    Scenario("multicast sends no Nack for want of a route (NFD MulticastStrategy)", [
        (0, "c", interest("/z"), [])], strategy=("/z", MULTICAST)),
    Scenario("multicast sends no Nack on (NFD MulticastStrategy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(A, 150), [])], strategy=("/a", MULTICAST)),
    # ------------------------------------------------------------ hints and chosen next hops, again
    Scenario("in the producer region the hint is taken out (NFD NetworkRegionTable)", [
        (0, "c", interest("/a/b", hints=["/isp/r1"]), ["p<I/a/b#1"]),
        (0.05, "P", interest("/a/b", 2), ["p<I/a/b#2"]), (0.1, "p", DA, ["P<D/a/b", "c<D/a/b"])],
        regions=("/isp/r1/host",)),
    Scenario("a Nack that quotes the Interest without its hint is understood (NFD onIncomingNack)", [
        (0, "c", interest("/a/b", hints=["/isp"]), ["P<I/a/b#1 via=/isp"]),
        (0.1, "P", nack(A, 150), ["c<N150/a/b#1 via=/isp"])],
        routes=[("/isp", "P", 0)]),
    Scenario("NextHopFaceId does not outlive the HopLimit (NFD onOutgoingInterest)", [
        (0, "c", link(interest("/a/b", 1, hop_limit=1), next_hop_face_id=258), []),
        (0, "c", link(interest("/a/c", 1, hop_limit=1), next_hop_face_id=257), ["p<I/a/c#1 h0"]),
        (0, "c", link(interest("/a/d", 1, hop_limit=2), next_hop_face_id=258), ["P<I/a/d#1 h1"])],
        local_fields="c"),
    Scenario("/localhop Data may come from elsewhere (NFD onIncomingData)", [
        (0, "c", interest("/localhop/x"), ["P<I/localhop/x#1"]), (0.1, "P", data("/localhop/x"), ["c<D/localhop/x"])],
        routes=[("/localhop/x", "P", 0)]),
    # ------------------------------------------------------------ more of them
    Scenario("/localhost between applications of one host (NFD wouldViolateScope)", [
        (0, "c", interest("/localhost/x"), ["p<I/localhost/x#1"]),
        (0.1, "p", data("/localhost/x"), ["c<D/localhost/x"])], routes=[("/localhost/x", "p", 0)]),
    Scenario("/localhop between applications of one host (NFD wouldViolateScope)", [
        (0, "c", interest("/localhop/x"), ["p<I/localhop/x#1"]),
        (0.1, "p", data("/localhop/x"), ["c<D/localhop/x"])], routes=[("/localhop/x", "p", 0)]),
    Scenario("only the first component makes a scope (NFD onIncomingInterest)", [
        (0, "P", interest("/a/localhost"), ["p<I/a/localhost#1"])]),
    Scenario("a longer hint than the route is matched by its prefix (NFD lookupFib)", [
        (0, "c", interest("/x/y", hints=["/isp/r1/h2"]), ["p<I/x/y#1 via=/isp/r1/h2"])], routes=[("/isp", "p", 0)]),
    Scenario("Data is matched by name, whatever the hint was (PF ForwardingHint)", [
        (0, "c", interest("/x/y", hints=["/isp"]), ["p<I/x/y#1 via=/isp"]), (0.1, "p", data("/x/y"), ["c<D/x/y"])],
        routes=[("/isp", "p", 0)]),
    Scenario("a Nack for a loop goes on (NFD ProcessNackTraits)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(A, 100), ["c<N100/a/b#1"])]),
    Scenario("a Nack for congestion goes on (NFD ProcessNackTraits)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(A, 50), ["c<N50/a/b#1"])]),
    Scenario("of two who were asked one may still answer (NFD ProcessNackTraits)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.2, "p", nack(A, 150), []), (0.3, "q", DA, ["c<D/a/b"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("a Nack for an Interest that nobody sent is dropped (NFD onIncomingNack)", [
        (0, "p", nack(A, 150), [])]),
    Scenario("a Nack after the answer is dropped (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "p", nack(A, 150), [])]),
    Scenario("a Nack of one upstream is withdrawn by a retransmission to it (NFD insertOrUpdateOutRecord)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "d", interest("/a/b", 2), ["q<I/a/b#2"]), (0.2, "p", nack(A, 150), []),
        (0.3, "c", interest("/a/b", 3), ["p<I/a/b#3"]), (0.4, "q", nack(interest("/a/b", 2), 150), []),
        (0.5, "p", DA, ["c<D/a/b", "d<D/a/b"])], faces="cdpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("multicast sends nothing back where it came from (NFD MulticastStrategy)", [
        (0, "p", A, ["q<I/a/b#1"])], faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)], strategy=("/a", MULTICAST)),
    Scenario("one answer of several is enough (NFD onIncomingData)", [
        (0, "c", A, ["p<I/a/b#1", "q<I/a/b#1"]), (0.1, "q", DA, ["c<D/a/b"]), (0.2, "p", DA, [])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)], strategy=("/a", MULTICAST)),
    Scenario("a next hop that comes later is asked too under multicast (NFD afterNewNextHop)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", register("/a", "q"), ["q<I/a/b#1"]), (0.2, "q", DA, ["c<D/a/b"])],
        faces="cpq", strategy=("/a", MULTICAST)),
    Scenario("but not the one who asked (NFD afterNewNextHop)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", register("/a", "c"), [])], faces="cp", strategy=("/a", MULTICAST)),
    Scenario("nor one that /localhost keeps out (NFD afterNewNextHop, NFD wouldViolateScope)", [
        (0, "c", interest("/localhost/x"), ["p<I/localhost/x#1"]), (0.1, "c", register("/localhost/x", "P"), [])],
        routes=[("/localhost/x", "p", 0)]),
    Scenario("best-route does not ask it (NFD BestRouteStrategy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", register("/a", "q"), [])], faces="cpq"),
    Scenario("the strategy of the longest prefix rules (NFD StrategyChoice)", [
        (0, "c", A, ["p<I/a/b#1", "q<I/a/b#1"]), (0, "c", interest("/a/c"), ["p<I/a/c#1"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)], strategy=("/a/b", MULTICAST)),
    Scenario("the adaptive strategy begins with the cheapest (NFD AsfStrategy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)], strategy=("/a", ASF)),
    Scenario("the adaptive strategy refuses what has no way (NFD AsfStrategy)", [
        (0, "c", interest("/z"), ["c<N150/z#1"])], strategy=("/z", ASF)),
    Scenario("the adaptive strategy tries another when one is silent (NFD AsfStrategy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["q<I/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)], strategy=("/a", ASF)),
    # ------------------------------------------------------------ scope, again
    Scenario("/localhop with no way but out: no route (NFD wouldViolateScope, NFD BestRouteStrategy)", [
        (0, "Q", interest("/localhop/x"), ["Q<N150/localhop/x#1"])], faces="PQ", routes=[("/localhop/x", "P", 0)]),
    Scenario("/localhost under best-route with no way but out: no route (NFD wouldViolateScope)", [
        (0, "c", interest("/localhost/x"), ["c<N150/localhost/x#1"])], routes=[("/localhost/x", "P", 0)],
        strategy=("/localhost", BEST_ROUTE)),
    Scenario("a retransmission of /localhop keeps to its scope (NFD wouldViolateScope)", [
        (0, "Q", interest("/localhop/x"), ["p<I/localhop/x#1"]), (0.1, "Q", interest("/localhop/x", 2),
                                                                  ["p<I/localhop/x#2"])],
        faces="pPQ", routes=[("/localhop/x", "P", 0), ("/localhop/x", "p", 5)]),
    Scenario("/localhop Data that an application asked for goes to a neighbour who asked too (NFD onOutgoingData)", [
        (0, "Q", interest("/localhop/x"), ["p<I/localhop/x#1"]), (0.1, "p", data("/localhop/x"), ["Q<D/localhop/x"])],
        faces="pQ", routes=[("/localhop/x", "p", 0)]),
    # ------------------------------------------------------------ ForwardingHint, again
    Scenario("the default route takes a hint that nothing else takes (NFD lookupFib)", [
        (0, "c", interest("/a/b", hints=["/none", "/isp"]), ["q<I/a/b#1 via=/none via=/isp"])], faces="cpqP",
        routes=[("/a", "p", 0), ("/", "q", 0), ("/isp", "P", 0)]),
    Scenario("of two hints that can be reached the first (NFD lookupFib)", [
        (0, "c", interest("/a/b", hints=["/isp2", "/isp"]), ["q<I/a/b#1 via=/isp2 via=/isp"])], faces="cpqP",
        routes=[("/isp", "p", 0), ("/isp2", "q", 9)]),
    Scenario("one hint of several that reached its region is enough (NFD NetworkRegionTable)", [
        (0, "c", interest("/a/b", hints=["/else", "/isp/r1"]), ["p<I/a/b#1"])],
        routes=[("/a", "p", 0), ("/else", "P", 0)], regions=("/isp/r1/host",)),
    Scenario("a hint that is longer than the region has not reached it (NFD NetworkRegionTable)", [
        (0, "c", interest("/a/b", hints=["/isp/r1/host/x"]), ["P<I/a/b#1 via=/isp/r1/host/x"])],
        routes=[("/a", "p", 0), ("/isp", "P", 0)], regions=("/isp/r1/host",)),
    Scenario("a hint that is the region has (NFD NetworkRegionTable)", [
        (0, "c", interest("/a/b", hints=["/isp/r1/host"]), ["p<I/a/b#1"])],
        routes=[("/a", "p", 0), ("/isp", "P", 0)], regions=("/else", "/isp/r1/host")),
    Scenario("with hop limit, nonce and token the hint is taken out cleanly (NFD NetworkRegionTable)", [
        (0, "P", link(interest("/a/b", hints=["/isp/r1"], hop_limit=7), pit_token=b"\7"), ["p<I/a/b#1 h6"]),
        (0.1, "p", DA, ["P<D/a/b t=07"])], regions=("/isp/r1",)),
    Scenario("a hint does not change what strategy rules (NFD StrategyChoice)", [
        (0, "c", interest("/a/b", hints=["/isp"]), ["p<I/a/b#1 via=/isp", "q<I/a/b#1 via=/isp"])], faces="cpq",
        routes=[("/isp", "p", 1), ("/isp", "q", 2)], strategy=("/a", MULTICAST)),
    Scenario("the store answers whatever the hint says (PF ForwardingHint, NFD onContentStoreHit)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]),
        (0.2, "c", interest("/a/b", 2, hints=["/isp"]), ["c<D/a/b"])]),
    # ------------------------------------------------------------ Nack, again
    Scenario("a Nack ends the wait (NFD onOutgoingNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(A, 150), ["c<N150/a/b#1"]), (0.2, "p", DA, [])]),
    Scenario("after a Nack best-route begins with the cheapest again (NFD BestRouteStrategy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(A, 150), ["c<N150/a/b#1"]),
        (0.2, "c", interest("/a/b", 2), ["p<I/a/b#2"])], faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("a nonce that was refused is dead (NFD insertDeadNonceList)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(A, 150), ["c<N150/a/b#1"]), (0.2, "c", A, ["c<N100/a/b#1"])]),
    Scenario("duplicate is less severe than no route (NFD isLessSevere)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.2, "p", nack(A, 150), []), (0.3, "q", nack(interest("/a/b", 2), 100), ["c<N100/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("congestion is less severe than duplicate (NFD isLessSevere)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["q<I/a/b#2"]),
        (0.2, "p", nack(A, 50), []), (0.3, "q", nack(interest("/a/b", 2), 100), ["c<N50/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("a Nack for the nonce before last is dropped (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["p<I/a/b#2"]), (0.2, "p", nack(A, 150), []),
        (0.3, "p", nack(interest("/a/b", 2), 150), ["c<N150/a/b#2"])]),
    Scenario("a Nack for another entry of the name is dropped (NFD onIncomingNack, NFD Pit)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", nack(interest("/a/b", 1, can_be_prefix=True), 150), []),
        (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("a Nack with other HopLimit than was sent is understood (NFD onIncomingNack)", [
        (0, "c", interest("/a/b", hop_limit=5), ["p<I/a/b#1 h4"]), (0.1, "p", nack(A, 150), ["c<N150/a/b#1 h4"])]),
    Scenario("under multicast the last Nack ends the entry in silence (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1", "q<I/a/b#1"]), (0.1, "p", nack(A, 150), []), (0.2, "q", nack(A, 150), []),
        (0.3, "p", DA, [])], faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)], strategy=("/a", MULTICAST)),
    Scenario("a Nack from one of several asked: the others may answer under multicast (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1", "q<I/a/b#1"]), (0.1, "p", nack(A, 150), []), (0.2, "q", DA, ["c<D/a/b"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)], strategy=("/a", MULTICAST)),
    # ------------------------------------------------------------ strategies that change
    Scenario("another strategy rules pending Interests at once (NFD StrategyChoice, NFD changeStrategy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", SetStrategy("/a", MULTICAST), []),
        (0.2, "c", interest("/a/b", 2), ["p<I/a/b#2", "q<I/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)]),
    Scenario("and what becomes of their Nacks (NFD StrategyChoice)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", SetStrategy("/a", MULTICAST), []), (0.2, "p", nack(A, 150), [])]),
    Scenario("and whether they go to new next hops (NFD StrategyChoice, NFD onNewNextHop)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", SetStrategy("/a", MULTICAST), []),
        (0.2, "c", register("/a", "q"), ["q<I/a/b#1"])], faces="cpq"),
    Scenario("a strategy for /a does not rule /ab (NFD StrategyChoice)", [
        (0, "c", interest("/ab"), ["p<I/ab#1"])], faces="cpq", routes=[("/ab", "p", 1), ("/ab", "q", 2)],
        strategy=("/a", MULTICAST)),
    Scenario("/ndn/broadcast is multicast from the start (NFD StrategyChoice)", [
        (0, "c", interest("/ndn/broadcast/x"), ["p<I/ndn/broadcast/x#1", "q<I/ndn/broadcast/x#1"])], faces="cpq",
        routes=[("/ndn/broadcast", "p", 1), ("/ndn/broadcast", "q", 2)]),
    # ------------------------------------------------------------ multicast, again
    Scenario("every upstream of multicast is asked again by a retransmission (NFD MulticastStrategy)", [
        (0, "c", A, ["p<I/a/b#1", "q<I/a/b#1"]), (0.1, "c", interest("/a/b", 2), ["p<I/a/b#2", "q<I/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)], strategy=("/a", MULTICAST)),
    Scenario("two downstreams of multicast, both answered (NFD MulticastStrategy, NFD sendDataToAll)", [
        (0, "c", A, ["p<I/a/b#1", "q<I/a/b#1"]), (0.1, "q", interest("/a/b", 2), ["p<I/a/b#2"]),
        (0.2, "p", DA, ["c<D/a/b", "q<D/a/b"])],
        faces="cpq", routes=[("/a", "p", 1), ("/a", "q", 2)], strategy=("/a", MULTICAST)),
    Scenario("multicast keeps /localhop to its scope (NFD wouldViolateScope)", [
        (0, "Q", interest("/localhop/x"), ["p<I/localhop/x#1"]),
        (0.1, "p", interest("/localhop/x", 2), ["P<I/localhop/x#2", "Q<I/localhop/x#2"])], faces="pPQ",
        routes=[("/localhop/x", "p", 0), ("/localhop/x", "P", 0), ("/localhop/x", "Q", 0)],
        strategy=("/localhop", MULTICAST)),
]  # fmt: skip
