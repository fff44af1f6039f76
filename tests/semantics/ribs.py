"""Routes: inheritance, costs, expiry, what goes with a face, and what pending Interests make of it."""

from __future__ import annotations

from ndn_infer.forwarder.core.rib import CAPTURE, CHILD_INHERIT
from tests.forwarder_world import interest, nack
from tests.semantics.scenario import DA, MULTICAST, A, AddRoute, DropRoute, Scenario, captured, register, remove

TWO = [("/a", "p", 1), ("/a", "q", 2)]

SCENARIOS = [
    # ------------------------------------------------------------ inheritance
    Scenario("a longer prefix inherits the routes above it (NFD Rib::getAncestorRoutes)", [
        (0, "c", AddRoute("/a/b", "q", 5, flags=0), []), (0.1, "c", A, ["p<I/a/b#1"]),
        (0.2, "c", interest("/a/b", 2), ["q<I/a/b#2"])], faces="cpq", routes=[("/a", "p", 1)]),
    Scenario("not those without child-inherit (NFD Rib::getAncestorRoutes)", [
        (0, "c", AddRoute("/a", "p", 1, flags=0), []), (0, "c", AddRoute("/a/b", "q", 5, flags=0), []),
        (0.1, "c", A, ["q<I/a/b#1"]), (0.2, "c", interest("/a/b", 2), ["q<I/a/b#2"])], faces="cpq", routes=[]),
    Scenario("capture keeps them out (NFD Rib::getAncestorRoutes)", [
        (0, "c", captured("/a/b", "q", 5), []), (0.1, "c", A, ["q<I/a/b#1"]),
        (0.2, "c", interest("/a/b", 2), ["q<I/a/b#2"])], faces="cpq", routes=[("/a", "p", 1)]),
    Scenario("capture keeps them out further down too (NFD Rib::getAncestorRoutes)", [
        (0, "c", AddRoute("/a/b", "q", 5, flags=CAPTURE | CHILD_INHERIT), []),
        (0, "c", AddRoute("/a/b/c", "r", 9, flags=0), []),
        (0.1, "c", interest("/a/b/c"), ["q<I/a/b/c#1"]), (0.2, "c", interest("/a/b/c", 2), ["r<I/a/b/c#2"]),
        (0.3, "c", interest("/a/b/c", 3), ["q<I/a/b/c#3"])], faces="cpqr", routes=[("/a", "p", 1)]),
    Scenario("capture alone is not inherited itself (NFD Rib::getAncestorRoutes)", [
        (0, "c", captured("/a/b", "q", 5), []), (0, "c", AddRoute("/a/b/c", "r", 9, flags=0), []),
        (0.1, "c", interest("/a/b/c"), ["r<I/a/b/c#1"]), (0.2, "c", interest("/a/b/c", 2), ["r<I/a/b/c#2"])],
        faces="cpqr", routes=[("/a", "p", 1)]),
    Scenario("of two ancestors with a face the nearer counts (NFD Rib::getAncestorRoutes)", [
        (0, "c", register("/a/b", "p", 9), []), (0, "c", AddRoute("/a/b/c", "q", 5, flags=0), []),
        (0.1, "c", interest("/a/b/c"), ["q<I/a/b/c#1"])], faces="cpq", routes=[("/a", "p", 1)]),
    Scenario("its own route is before an inherited one of the same face (NFD Rib::getAncestorRoutes)", [
        (0, "c", AddRoute("/a/b", "p", 9, flags=0), []), (0, "c", AddRoute("/a/b", "q", 5, flags=0), []),
        (0.1, "c", A, ["q<I/a/b#1"])], faces="cpq", routes=[("/a", "p", 1)]),
    Scenario("an inherited route comes later than its heir (NFD Rib::insert)", [
        (0, "c", AddRoute("/a/b", "q", 5, flags=0), []), (0.1, "c", register("/a", "p", 1), []),
        (0.2, "c", A, ["p<I/a/b#1"])], faces="cpq", routes=[]),
    Scenario("an inherited route goes with the one above (NFD Rib::erase)", [
        (0, "c", AddRoute("/a/b", "q", 5, flags=0), []), (0.1, "c", DropRoute("/a", "p"), []),
        (0.2, "c", A, ["q<I/a/b#1"]), (0.3, "c", interest("/a/b", 2), ["q<I/a/b#2"])],
        faces="cpq", routes=[("/a", "p", 1)]),
    Scenario("a capture that ends lets them in again (NFD Rib::insert)", [
        (0, "c", captured("/a/b", "q", 5), []), (0.1, "c", AddRoute("/a/b", "q", 5, flags=0), []),
        (0.2, "c", A, ["p<I/a/b#1"])], faces="cpq", routes=[("/a", "p", 1)]),
    Scenario("an heir that goes leaves the name to the one above (NFD Rib::erase, NFD Fib)", [
        (0, "c", captured("/a/b", "q", 0), []), (0.1, "c", DropRoute("/a/b", "q"), []), (0.2, "c", A, ["p<I/a/b#1"])],
        faces="cpq", routes=[("/a", "p", 1)]),
    # ------------------------------------------------------------ costs and origins
    Scenario("a new cost makes a new order (NFD Rib::insert)", [
        (0, "c", register("/a", "p", 9), []), (0.1, "c", A, ["q<I/a/b#1"])], faces="cpq", routes=TWO),
    Scenario("of two origins the cheaper counts (NFD getRouteWithLowestCostByFaceId)", [
        (0, "c", AddRoute("/a", "p", 9, origin=255), []), (0.1, "c", A, ["p<I/a/b#1"])], faces="cpq", routes=TWO),
    Scenario("a cheaper origin makes the face cheaper (NFD getRouteWithLowestCostByFaceId)", [
        (0, "c", AddRoute("/a", "q", 0, origin=255), []), (0.1, "c", A, ["q<I/a/b#1"])], faces="cpq", routes=TWO),
    Scenario("one origin's route stays when another's goes (NFD Rib::erase)", [
        (0, "c", AddRoute("/a", "p", 9, origin=255), []), (0.1, "c", DropRoute("/a", "p"), []),
        (0.2, "c", A, ["p<I/a/b#1"])], faces="cp"),
    Scenario("a route that never was can go (NFD Rib::erase)", [
        (0, "c", DropRoute("/a", "q"), []), (0, "c", DropRoute("/z", "p"), []), (0.1, "c", A, ["p<I/a/b#1"])],
        faces="cpq"),
    Scenario("no route any more: Nack NoRoute (NFD Rib::erase, NFD BestRouteStrategy)", [
        (0, "c", DropRoute("/a", "p"), []), (0.1, "c", A, ["c<N150/a/b#1"])]),
    # ------------------------------------------------------------ expiry
    Scenario("a route ends with its ExpirationPeriod (NFD Rib::onRouteExpiration)", [
        (0, "c", AddRoute("/a", "p", lifetime_ms=400), []), (0.1, "c", A, ["p<I/a/b#1"]),
        (0.8, "c", interest("/a/c"), ["c<N150/a/c#1"])], faces="cp", routes=[]),
    Scenario("registering again makes it last longer (NFD Rib::insert)", [
        (0, "c", AddRoute("/a", "p", lifetime_ms=400), []), (0.2, "c", AddRoute("/a", "p", lifetime_ms=2000), []),
        (0.8, "c", A, ["p<I/a/b#1"])], faces="cp", routes=[]),
    Scenario("registering again without a period makes it stay (NFD Rib::insert)", [
        (0, "c", AddRoute("/a", "p", lifetime_ms=300), []), (0.1, "c", register("/a", "p"), []),
        (0.8, "c", A, ["p<I/a/b#1"])], faces="cp", routes=[]),
    Scenario("registering again with a period makes it end (NFD Rib::insert)", [
        (0, "c", AddRoute("/a", "p", lifetime_ms=300), []), (0.8, "c", A, ["c<N150/a/b#1"])], faces="cp"),
    Scenario("heirs lose it too when it ends (NFD Rib::onRouteExpiration)", [
        (0, "c", AddRoute("/a", "p", 1, lifetime_ms=400), []), (0, "c", AddRoute("/a/b", "q", 5, flags=0), []),
        (0.1, "c", A, ["p<I/a/b#1"]), (0.8, "c", interest("/a/b/x", 2), ["q<I/a/b/x#2"])], faces="cpq", routes=[]),
    # ------------------------------------------------------------ faces
    Scenario("inherited routes go with the face (NFD cleanupOnFaceRemoval)", [
        (0, "c", AddRoute("/a/b", "q", 5, flags=0), []), (0.1, "c", remove("p"), []), (0.2, "c", A, ["q<I/a/b#1"])],
        faces="cpq", routes=[("/a", "p", 1)]),
    Scenario("other faces' routes stay (NFD cleanupOnFaceRemoval)", [
        (0, "c", remove("p"), []), (0.1, "c", A, ["q<I/a/b#1"])], faces="cpq", routes=TWO),
    # ------------------------------------------------------------ with Interests pending
    Scenario("Data comes back though the route is gone (NFD onIncomingData)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", DropRoute("/a", "p"), []), (0.2, "p", DA, ["c<D/a/b"])]),
    Scenario("a Nack too (NFD onIncomingNack)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", DropRoute("/a", "p"), []), (0.2, "p", nack(A, 150), ["c<N150/a/b#1"])]),
    Scenario("a retransmission that has nowhere to go is quiet while one is out (NFD BestRouteStrategy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", DropRoute("/a", "p"), []), (0.2, "c", interest("/a/b", 2), []),
        (0.3, "p", DA, ["c<D/a/b"])]),
    Scenario("a retransmission goes by the routes of its time (NFD BestRouteStrategy)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", captured("/a/b", "q"), []),
        (0.2, "c", interest("/a/b", 2), ["q<I/a/b#2"])],
        faces="cpq"),
    Scenario("multicast asks a next hop of a longer prefix (NFD onNewNextHop)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", register("/a/b", "q"), ["q<I/a/b#1"])],
        faces="cpq", strategy=("/a", MULTICAST)),
    Scenario("and one that the longer prefix inherits (NFD onNewNextHop, NFD Rib::getAncestorRoutes)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", register("/a", "q"), ["q<I/a/b#1"])],
        faces="cpq", routes=[("/a/b", "p", 0)], strategy=("/a", MULTICAST)),
    Scenario("not one that it does not inherit (NFD onNewNextHop)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", AddRoute("/a", "q", flags=0), [])],
        faces="cpq", routes=[("/a/b", "p", 0)], strategy=("/a", MULTICAST)),
    Scenario("a new cost is no new next hop (NFD onNewNextHop)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", register("/a", "p", 7), [])], strategy=("/a", MULTICAST)),
    Scenario("nor is one that went and came again, and still owes an answer (NFD onNewNextHop)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "c", DropRoute("/a", "p"), []), (0.2, "c", register("/a", "p"), [])],
        strategy=("/a", MULTICAST)),
    Scenario("what ran out is not sent to new next hops (NFD onNewNextHop, NFD onInterestFinalize)", [
        (0, "c", interest("/a/b", lifetime_ms=100), ["p<I/a/b#1"]), (0.3, "c", register("/a", "q"), [])],
        faces="cpq", strategy=("/a", MULTICAST)),
    Scenario("nor what was answered (NFD onNewNextHop, NFD onIncomingData)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", DA, ["c<D/a/b"]), (0.2, "c", register("/a", "q"), [])],
        faces="cpq", strategy=("/a", MULTICAST)),
]  # fmt: skip
