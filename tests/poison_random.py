"""Random attacks, and a table of what stopped them.

    python -m tests.poison_random 10000 SEED

Owns: which attacks an episode has, and the report of a run. Must not know: what an attack changes, how it is made in
the network.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.security.crypto import ED25519
from tests.poison_attacks import KINDS
from tests.poison_kit import LIVE, Plan, World, in_world


@dataclass
class Report:
    """Of a run of random attacks. `findings` are what must not be: each with the seed of its episode."""

    attacks: int = 0
    episodes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def text(self) -> str:
        lines = [f"{self.attacks} attacks in {self.episodes} episodes"]
        lines += [f"  {count:6d}  {outcome}" for outcome, count in self.outcomes.most_common()]
        lines += ["what stopped them (all episodes):"]
        lines += [f"  {count:6d}  {check}" for check, count in self.checks.most_common() if count]
        lines += ["what a single attack met first, by kind:"]
        for kind, met in sorted(self.by_kind.items()):
            lines.append(f"  {kind:16s} " + ", ".join(f"{check} {count}" for check, count in met.most_common()))
        return "\n".join([*lines, *self.findings])


CHANCE_OF: Final = {"inline": 10, "three": 25, "two-level": 25, "sealed": 15, "real": 10, "many": 1, "live": 14}


async def _episode(world: World, seed: int, report: Report, room: int) -> None:
    rng = random.Random(seed)
    shape = rng.choices(list(CHANCE_OF), list(CHANCE_OF.values()))[0]
    live = shape == "live"
    target = world.targets["three" if live else shape]
    endless = rng.random() < 0.05
    left = room if endless else min(room, 1 if rng.random() < 0.6 else rng.randint(2, 8))
    spots = rng.choice([("edge",), ("core",), ("origin",), ("edge", "core", "origin")])
    plan = Plan(rng, target.material, KINDS, spots, left, per_name=room if endless else 2)
    plan.interests = rng.random() < 0.2
    world.checks.clear()
    try:
        if live:
            outcome = await world.stream(seed, rng.randint(1, 12), plan, pace_s=rng.choice((0.0, 0.1)))
        else:
            outcome = await world.fetch(target, plan, stranger=rng.random() < 0.1)
    except Exception as error:  # whatever comes out beside a declared error is what we look for
        outcome = f"{type(error).__name__}: {error}"
        report.findings.append(f"seed {seed}: {outcome} ({shape}, {plan.made})")
    report.episodes += 1
    report.attacks += len(plan.made)
    report.checks.update(world.checks)
    excuse = "attacked without end" if endless else ""
    good = outcome in ("complete", "older")
    report.outcomes[outcome if good or not excuse else f"{outcome} ({excuse})"] += 1
    if not good and not excuse:
        report.findings.append(f"seed {seed}: {outcome}, and an honest source was there ({shape}, {plan.made})")
    if len(plan.made) == 1:
        unseen = "caller: asked again" if live and LIVE not in plan.made[0][2] else "nothing: harmless"
        first = next((check for check, count in world.checks.items() if count > 0), unseen)
        report.by_kind.setdefault(plan.made[0][0], Counter())[first] += 1


async def attack_randomly(world: World, attacks: int, seed: int) -> Report:
    """At least so many attacks; the episodes' seeds begin with `seed` times a million."""
    report = Report()
    number = 0
    while report.attacks < attacks:
        await _episode(world, seed * 1_000_000 + number, report, 1000)
        number += 1
    return report


def main(arguments: list[str]) -> int:
    attacks, seed = (
        (int(text) for text in (*arguments, "10000", "1")[:2]) if len(arguments) != 1 else (int(arguments[0]), 1)
    )
    report = in_world(lambda world: attack_randomly(world, attacks, seed), kind=ED25519)
    print(report.text())
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
