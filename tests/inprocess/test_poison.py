"""Poison: a router, a cache or a rival that alters, swaps, truncates, replays, reorders or replaces packets.

Whatever is done, what a fetch returns is what somebody honest published under that name, or a declared error; and the
object completes while an honest source is within the fetcher's attempts. Virtual time: nothing here is timed, and no
speed of a machine matters.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from ndn_infer import ndn
from ndn_infer.errors import NetworkError
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import Data, decode_data
from ndn_infer.security.crypto import ED25519
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.wire.manifest import MANIFEST
from tests.harness import role
from tests.poison_attacks import ATTACKS, KINDS, flip, forged
from tests.poison_kit import KEY, LIVE, Plan, World, WrongBytes, in_world
from tests.poison_objects import QUICK, Target, all_packets
from tests.poison_random import Report, attack_randomly

FOREVER = 1 << 30


def only(
    target: Target,
    chosen: Callable[[Name], bool],
    exact: Callable[[bytes], bytes | None],
    *,
    spot: str = "edge",
    times: int = 1,
) -> Plan:
    """`exact`, done to the first `times` chosen packets that come by `spot`."""
    return Plan(
        random.Random(0), target.material, (), (spot,), times, per_name=times, chance=2, chosen=chosen, exact=exact
    )


def flipped_at(at: int) -> Callable[[bytes], bytes]:
    """One bit of byte `at`, counted round."""
    return lambda wire: flip(wire, at % len(wire), at % 8)


def part_of(part: bytes) -> Callable[[Name], bool]:
    return lambda name: part in name


def report_of(attacks: int, seed: int) -> Report:
    return in_world(lambda world: attack_randomly(world, attacks, seed), kind=ED25519)


# ---------------------------------------------------------------- every single byte


async def flip_every(world: World, shape: str, spots: tuple[str, ...], steps: tuple[int, int, int]) -> Counter[str]:
    """Fetch `shape` once for every position of its metadata, manifest and segment packets that the three steps leave,
    with one bit of it flipped on the way; how each fetch ended."""
    ends: Counter[str] = Counter()
    target = world.targets[shape]
    for name, wire in all_packets(target.packets).items():
        known = METADATA not in name and MANIFEST not in name
        step = steps[2] if known else steps[MANIFEST in name]
        if shape == "inline" and known:
            continue  # nobody asks for it
        if shape == "many" and known and ndn.component_number(ndn.components(name)[-1], ndn.SEGMENT) % 20:
            continue
        for spot in spots if known else ("edge",):
            for at in range(0, len(wire), step):
                plan = only(target, name.__eq__, flipped_at(at), spot=spot)
                ends[await world.fetch(target, plan)] += 1
                assert plan.made, "nothing was flipped"
    return ends


@pytest.mark.parametrize("shape", QUICK)
def test_every_byte_of_a_small_object(shape: str) -> None:
    """Segments after the last cache, and before the first: then both caches hold the altered one."""
    steps = (1, 1, 1) if shape == "three" else (1, 1, 5)
    ends = in_world(lambda world: flip_every(world, shape, ("edge", "origin"), steps))
    assert set(ends) == {"complete"} and ends.total() > 600, ends


@pytest.mark.parametrize("shape", ["real", "many"])
def test_some_bytes_of_a_large_object(shape: str) -> None:
    steps = (29, 29, 59) if shape == "real" else (41, 211, 1 << 20)
    ends = in_world(lambda world: flip_every(world, shape, ("edge",), steps))
    assert set(ends) == {"complete"} and ends.total() > 60, ends


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "steps", "least"), [("real", (1, 1, 1), 35_000), ("many", (3, 11, 100), 900)])
def test_every_byte_of_a_large_object(shape: str, steps: tuple[int, int, int], least: int) -> None:
    """Of full segments: every position. Of 260 segments: what a minute allows."""
    ends = in_world(lambda world: flip_every(world, shape, ("edge", "origin"), steps))
    assert set(ends) == {"complete"} and ends.total() > least, ends


async def flip_stream(world: World, step: int) -> Counter[str]:
    """Every `step`th position of the answer and of both segments of a live stream, which is another one every time."""
    ends: Counter[str] = Counter()
    target = world.targets["three"]
    run = 0
    for part in (b"\x06shared", LIVE):
        for at in range(0, 520 if part == LIVE else 600, step):
            run += 1
            plan = only(target, part_of(part), flipped_at(at), times=2 if part == LIVE else 1)
            plan.per_name = 1  # both segments, once each
            ends[await world.stream(run, 2, plan)] += 1
            assert plan.made, "nothing was flipped"
    return ends


def test_bytes_of_a_live_stream() -> None:
    ends = in_world(lambda world: flip_stream(world, 3))
    assert set(ends) == {"complete"} and ends.total() > 300, ends


# ---------------------------------------------------------------- random attacks


def test_random_attacks() -> None:
    report = report_of(600, seed=1)
    assert not report.findings, report.text()
    assert report.outcomes["complete"] > report.episodes * 0.8, report.text()
    for check in ("DigestMismatch", "BadSignature", "KeyNotAllowed", "BadPacket", "timeout", "nack"):
        assert report.checks[f"fetcher: {check}"], f"no attack was stopped by {check}: {report.text()}"


@pytest.mark.slow
def test_many_random_attacks() -> None:
    report = report_of(10_000, seed=2)
    assert not report.findings, report.text()
    assert set(KINDS) <= set(report.by_kind), "some kind of attack never happened alone"


def test_this_suite_notices_a_consumer_that_believes_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the signature check gone, lying manifests must get wrong bytes in."""
    key = role("rag") + KEY + KEY

    async def believe(self: Validator, data: Data) -> Validated:
        return Validated(key, key, "none")

    async def work(world: World) -> None:
        target = world.targets["inline"]
        for seed in range(50):
            await world.fetch(target, Plan(random.Random(seed), target.material, ("manifest-lie",), chance=2))

    monkeypatch.setattr(Validator, "validate", believe)
    monkeypatch.setattr(Validator, "try_validate", lambda self, data: Validated(key, key, "none"))
    with pytest.raises(WrongBytes):
        in_world(work)


# ---------------------------------------------------------------- attacks with a plan


@pytest.mark.parametrize("kind", sorted(ATTACKS))
def test_segment_attacked_without_end_is_never_believed(kind: str) -> None:
    """Every Data packet of a segment, after the last cache, for ever: the original or a declared error."""

    async def work(world: World) -> str:
        target = world.targets["three"]
        plan = Plan(random.Random(kind), target.material, (kind,), ("edge",), FOREVER, FOREVER, chance=2)
        plan.chosen = lambda name: METADATA not in name and KEY not in name
        return await world.fetch(target, plan)

    outcome = in_world(work)
    if kind not in ("sibling", "swap", "manifest-lie"):  # these pick the right packet now and then
        assert (outcome == "complete") == (kind in ("duplicate", "mark", "absent")), outcome


def test_older_version_replayed_as_a_whole() -> None:
    """Nobody can tell from the metadata that there is a newer version, but its segments are gone: the producer answers
    with a Nack, where it once signed a denial in whose place this attacker, who replaces Data only, put old ones."""

    async def work(world: World) -> str:
        target = world.targets["three"]
        old = {decode_data(wire).name: wire for wire in target.material.older.values()}
        discovery = next(name for name in old if METADATA in name)

        def replay(wire: bytes) -> bytes:
            name = decode_data(wire).name
            return old[discovery] if METADATA in name else old[name]

        plan = only(target, lambda name: target.base in name, replay, times=FOREVER)
        return await world.fetch(target, plan)

    assert in_world(work) == "FetchIncomplete"


@pytest.mark.parametrize("shape", ["three", "many"])
def test_all_segments_replaced_by_those_of_the_older_version(shape: str) -> None:
    """Under the names of the newer one, in every cache: all are asked for again past them."""

    async def work(world: World) -> str:
        target = world.targets[shape]
        older = {name: decode_data(wire).content for name, wire in target.material.older.items()}

        def swap(wire: bytes) -> bytes:
            data = decode_data(wire)
            return forged(data, older[data.name])

        plan = only(
            target,
            lambda name: name in target.packets.packets and MANIFEST not in name,
            swap,
            spot="origin",
            times=FOREVER,
        )
        plan.per_name = 1
        return await world.fetch(target, plan)

    assert in_world(work) == "complete"


@pytest.mark.parametrize("times", [1, 2, 3, FOREVER])
def test_rival_with_the_nearer_route_makes_segments_up(times: int) -> None:
    """It answers first and falls silent after `times` lies; the honest producer is behind the dearer route. However
    many there are: the Interest by digest lets no lie pass, and asking again reaches the other route."""

    async def work(world: World) -> str:
        world.admit_rival()
        target = world.targets["three"]
        kinds = ("random-content", "older-renamed", "swap", "wrong-key", "shorten")
        plan = Plan(random.Random(times), target.material, kinds, ("rival",), times, FOREVER, chance=2)
        plan.chosen = lambda name: METADATA not in name and KEY not in name
        return await world.fetch(target, plan)

    assert in_world(work) == "complete"


def test_last_segment_of_a_finished_stream_is_lost() -> None:
    """The reader asks beyond the end meanwhile, and is told, signed, that there is no such segment: not an end."""

    async def work(world: World) -> list[str]:
        target = world.targets["three"]
        ends = []
        for events in (1, 2, 3, 6):
            for number in range(events):
                lost = only(target, part_of(ndn.segment(number)), lambda wire: None)
                ends.append(await world.stream(10 * number + events, events, lost, pace_s=0.0))
                assert lost.made
        return ends

    assert set(in_world(work)) == {"complete"}


# ---------------------------------------------------------------- one bad packet, kept by caches or played back


@pytest.mark.parametrize("which", ["manifest", "metadata", "live", "certificate", "older", "absent"])
def test_one_bad_packet_while_the_producer_is_honest(which: str) -> None:
    """One packet, once; the first four stay in the caches, the last two were good once."""

    async def work(world: World) -> str:
        target = world.targets["two-level"]

        def change(wire: bytes) -> bytes:
            return flip(wire, -40, 0)

        match which:
            case "metadata" | "manifest":
                part = METADATA if which == "metadata" else MANIFEST
                return await world.fetch(target, only(target, lambda name: part in name, change, spot="core"))
            case "live":
                return await world.stream(1, 3, only(target, lambda name: LIVE in name, change, spot="core"))
            case "certificate":
                plan = only(target, lambda name: KEY in name and METADATA not in name, change)
                return await world.fetch(target, plan, stranger=True)
            case _:
                has = target.material
                stale = has.absent if which == "absent" else has.older[target.packets.metadata_name]
                return await world.fetch(target, only(target, lambda name: METADATA in name, lambda wire: stale))

    assert in_world(work) == "complete"


def test_nobody_is_given_a_signed_denial_of_what_is_there() -> None:
    """A stranger asks for metadata of a version that never was; the answer must be of no use as "no such object"."""

    async def work(world: World) -> str:
        target = world.targets["three"]
        name = target.base + METADATA + ndn.version(1 << 50) + ndn.segment(0)
        try:
            denial, _ = await world.endpoints[0].express(name)
        except NetworkError:
            return "refused"
        lie = only(target, part_of(METADATA), lambda wire: denial.wire, times=FOREVER)
        return await world.fetch(target, lie)

    assert in_world(work) in ("refused", "complete", "BadSignature", "KeyNotAllowed", "BadPacket")
