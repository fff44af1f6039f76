"""Forms of the hint of held prefixes, measured on a trace of requests: the table in docs/offers.md.

    python -m tests.load.hints TRACE.jsonl [--blocks 4096] [--bytes 512] [--requests 150]

TRACE has one JSON object a line with `hash_ids`, one for each 512 tokens (the public Mooncake trace). Eight nodes take
the requests, half of them by chance and half where their prefix was; each keeps its newest blocks of 16 tokens. Prints
a line for each form: the error of the held length in tokens, overestimates, tokens lost by choosing by it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Final

TOKENS: Final = 16
BLOCKS_OF_ID: Final = 32
NODES: Final = 8
WARM: Final = 2500
Held = OrderedDict[int, None]
Test = Callable[[int], bool]
Form = Callable[[Sequence[int], int], tuple[Test, int]]
"""Values held and bytes -> whether a value is there, and which of them count: one in 2**rate."""


@cache
def blocks_of(number: int) -> tuple[int, ...]:
    digests = (hashlib.blake2b(b"%d %d" % (number, j), digest_size=16).digest() for j in range(BLOCKS_OF_ID))
    return tuple(int.from_bytes(one, "big") for one in digests)


def counts(value: int, rate: int) -> bool:
    return not (value >> 100) & ((1 << rate) - 1)


def sampled(values: Sequence[int], most: int) -> tuple[Sequence[int], int]:
    rate = 0
    while len(values) > most:
        rate += 1
        values = [value for value in values if counts(value, rate)]
    return values, rate


def bloom(bits: int, probes: int, values: Sequence[int], size: int) -> tuple[Test, int]:
    kept, rate = sampled(values, size * 8 // bits)
    places = {(value >> 16 * probe) % (size * 8) for value in kept for probe in range(probes)}
    return lambda value: all((value >> 16 * probe) % (size * 8) in places for probe in range(probes)), rate


def tags(values: Sequence[int], size: int) -> tuple[Test, int]:
    kept, rate = sampled(values, size // 2)
    held = {value & 0xFFFF for value in kept}
    return lambda value: value & 0xFFFF in held, rate


def fingerprints(bits: float, false: int, values: Sequence[int], size: int) -> tuple[Test, int]:
    """Any form that takes `bits` for a value and is wrong for one of `false`."""
    kept, rate = sampled(values, int(size * 8 / bits))
    held, salt = set(kept), len(kept) * 2654435761
    return lambda value: value in held or ((value >> 20) ^ salt) % false == 0, rate


def newest(values: Sequence[int], size: int) -> tuple[Test, int]:
    return bloom(6, 4, values[-max(len(values) // 8, 1) :], size)


FORMS: Final[dict[str, Form]] = {
    "Bloom, 8 bits, 5 probes": partial(bloom, 8, 5),
    "Bloom, 6 bits, 4 probes": partial(bloom, 6, 4),
    "sorted 2-byte tags": tags,
    "Golomb-coded set, 1/16": partial(fingerprints, 5.5, 16),
    "cuckoo filter, 6 bits": partial(fingerprints, 6.3, 8),
    "newest eighth, Bloom": newest,
}


def leading(values: Sequence[int], there: Test) -> int:
    return next((place for place, value in enumerate(values) if not there(value)), len(values))


def estimated(values: Sequence[int], there: Test, rate: int) -> int:
    """Blocks up to the last one that counts and is there."""
    last = 0
    for place, value in enumerate(values):
        if counts(value, rate):
            if not there(value):
                break
            last = place + 1
    return last


def replay(trace: Path, blocks: int, requests: int) -> Iterator[tuple[list[int], list[Held]]]:
    """Values of a drawn request, and what each node holds when it comes."""
    rows = [json.loads(line)["hash_ids"] for line in trace.read_text().splitlines()]
    rng, nodes = random.Random(1), [Held() for _ in range(NODES)]
    drawn = set(rng.sample(range(WARM, len(rows)), requests))
    for number, ids in enumerate(rows):
        values = [value for one in ids for value in blocks_of(one)]
        if number in drawn:
            yield values, nodes
        node = nodes[rng.randrange(NODES) if rng.random() < 0.5 else ids[min(2, len(ids) - 1)] % NODES]
        for value in values:
            node[value] = None
            node.move_to_end(value)
        while len(node) > blocks:
            node.popitem(last=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="forms of the hint of held prefixes on a trace")
    parser.add_argument("trace", type=Path)
    parser.add_argument("--blocks", type=int, default=4096)
    parser.add_argument("--bytes", type=int, default=512)
    parser.add_argument("--requests", type=int, default=150)
    options = parser.parse_args()
    errors: dict[str, list[int]] = {form: [] for form in FORMS}
    lost = dict.fromkeys(FORMS, 0)
    for values, nodes in replay(options.trace, options.blocks, options.requests):
        truth = [leading(values, node.__contains__) for node in nodes]
        for form, make in FORMS.items():
            guess = [estimated(values, *make([*node], options.bytes)) for node in nodes]
            errors[form] += [one - true for one, true in zip(guess, truth, strict=True)]
            lost[form] += max(truth) - truth[max(range(NODES), key=lambda one: (guess[one], -one))]
    for form, found in errors.items():
        mean = TOKENS * sum(map(abs, found)) / len(found)
        over = 100 * sum(one > 4 for one in found) / len(found)
        print(f"{form:26} error {mean:7.1f}  over {over:4.1f} %  lost {TOKENS * lost[form] / options.requests:7.1f}")


if __name__ == "__main__":
    main()
