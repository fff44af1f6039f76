"""What an outsider can tell of a tenant domain: nothing from names, sealed bytes or time.

The statistical tests use fixed keys and seeds, so each has one outcome; their bounds are those of a chance of about one
in 10**9 for a construction that leaks nothing, and a construction without keys misses them by far (shown beside them).
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from ndn_infer import chain, ndn, records
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import SignatureInfo, encode_data
from ndn_infer.security.domains import PUBLIC, DomainEpoch
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.wire.manifest import build_object
from tests.unit.domain_kit import BASE, ID, USER, block_name

SAMPLES = 2000


def prompts(count: int) -> list[list[int]]:
    draw = random.Random(7)
    return [[draw.randrange(49152) for _ in range(16)] for _ in range(count)]


def key_of(number: int) -> DomainEpoch:
    return DomainEpoch(ID, 1, hashlib.sha256(b"test key %d" % number).digest())


def bits_alike(left: bytes, right: bytes) -> list[int]:
    """1 for every bit that is equal."""
    difference = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return [1 - (difference >> bit & 1) for bit in range(256)]


def chi_square(counts: list[int], samples: int) -> float:
    """Of bit positions, each equal in `counts` of `samples` cases where half of them would be chance."""
    return sum((count - samples / 2) ** 2 / (samples / 4) for count in counts)


LIMIT = 256 + 6 * math.sqrt(2 * 256)
"""Chi-square of 256 degrees of freedom: mean 256, standard deviation 22.6; six of them above."""


def counted(pairs: list[tuple[bytes, bytes]]) -> list[int]:
    return [sum(column) for column in zip(*(bits_alike(*pair) for pair in pairs), strict=True)]


def test_equal_prompts_under_different_keys_have_unrelated_names() -> None:
    ids = prompts(1)[0]
    pairs = [(key_of(n).chain_values(ids, 16)[0], key_of(n + SAMPLES).chain_values(ids, 16)[0]) for n in range(SAMPLES)]
    assert chi_square(counted(pairs), SAMPLES) < LIMIT
    same = [(key_of(0).chain_values(ids, 16)[0],) * 2 for _ in range(SAMPLES)]
    assert chi_square(counted(same), SAMPLES) > 100 * LIMIT  # the test can fail


def test_the_public_chain_tells_nothing_about_a_tenants() -> None:
    """Nor does what an outsider can compute with a key of its own, or a name seen in another epoch."""
    secret, guess = key_of(1), key_of(2)
    every = prompts(SAMPLES)
    mine = [secret.chain_values(ids, 16)[0] for ids in every]
    for theirs in (PUBLIC, guess, DomainEpoch(ID, 2, hashlib.sha256(b"test key 1").digest())):
        known = [theirs.chain_values(ids, 16)[0] for ids in every]
        assert chi_square(counted(list(zip(mine, known, strict=True))), SAMPLES) < LIMIT
        assert not set(mine) & set(known)


def test_one_name_does_not_lead_to_the_next() -> None:
    """Who sees the name of a block and guesses the next ids cannot name the next block."""
    secret = key_of(1)
    pairs = []
    for ids in prompts(SAMPLES):
        first, second = secret.chain_values(ids * 2, 16)
        assert chain.extend(first, ids) != second
        pairs.append((second, chain.extend(first, ids)))
    assert chi_square(counted(pairs), SAMPLES) < LIMIT


def test_sealed_blocks_look_random_and_are_of_one_size() -> None:
    """Token blocks of all kinds of ids; the bytes of equal blocks under two keys."""
    sizes, pairs = set(), []
    for number, ids in enumerate(prompts(SAMPLES)):
        small = tuple(token % (100 if number % 2 else 49152) for token in ids)
        content = records.encode(records.TokenBlockRecord("00" * 32, small))
        sealed = [key_of(number + shift).seal(BASE, content) for shift in (0, SAMPLES)]
        sizes |= {len(item) for item in sealed}
        pairs += [(sealed[0][at : at + 32], sealed[1][at : at + 32]) for at in (5, 37, 69)]
    assert len(sizes) == 1
    assert chi_square(counted(pairs), len(pairs)) < LIMIT


def rank_z(left: list[float], right: list[float]) -> float:
    """Mann-Whitney: standard deviations by which one sample ranks above the other; mean ranks for equal values."""
    order = sorted([(value, 0) for value in left] + [(value, 1) for value in right])
    ranks, at = [0.0, 0.0], 0
    while at < len(order):
        end = at
        while end < len(order) and order[end][0] == order[at][0]:
            end += 1
        for _, side in order[at:end]:
            ranks[side] += (at + end + 1) / 2
        at = end
    n, m = len(left), len(right)
    return (ranks[0] - n * (n + m + 1) / 2) / math.sqrt(n * m * (n + m + 1) / 12)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - began


def calm_z(left: Callable[[int], object], right: Callable[[int], object], rounds: int = 400) -> float:
    """|z| of two pieces of work, taken in turns, each as often first as second: whoever comes first after other work of
    the machine finds its caches cold. The least of five tries."""
    best = math.inf
    for _ in range(5):
        times: tuple[list[float], list[float]] = ([], [])
        for n in range(rounds):
            for side in (0, 1) if n % 2 else (1, 0):
                times[side].append(seconds(lambda n=n, side=side: (left, right)[side](n)))  # type: ignore[misc]
        best = min(best, abs(rank_z(*times)))
    return best


def test_the_rank_test_sees_a_difference() -> None:
    assert abs(rank_z(list(range(400)), [value + 200 for value in range(400)])) > 10
    assert abs(rank_z(list(range(400)), list(range(400)))) < 1e-9


def test_the_time_of_a_chain_does_not_depend_on_what_is_cached() -> None:
    """Chain values are computed from ids and key alone: the same object, whether its blocks are in a store or not.

    Six standard deviations of the best of five tries: chance alone does not reach that on a loaded machine either.
    """
    held, missing = prompts(2)
    store = ObjectStore(1 << 20)
    secret = key_of(1)
    sign = _signer()
    for value in secret.chain_values(held, 16):
        store.put(build_object(block_name(secret.label, value), 1, b"x", sign))
    assert calm_z(lambda _: secret.chain_values(held, 16), lambda _: secret.chain_values(missing, 16)) < 6


def steps(work: Callable[[], object]) -> int:
    """Lines and calls in the store that a piece of work takes; what the collector of garbage calls meanwhile is not."""
    count = 0

    def step(frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal count
        if "ndn_infer/storage" not in frame.f_code.co_filename:
            return None
        count += 1
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def test_a_look_up_by_a_name_that_was_guessed_takes_the_same_steps() -> None:
    """An outsider's guesses, made with the public chain, are never held, whatever is cached: the store's answer to them
    is the same, by the same steps, for prompts that the tenant has cached and for those that it has not. Steps and not
    time: 0.8 us is less than what other work on a machine does to it."""
    secret, sign = key_of(1), _signer()
    every = prompts(800)
    store = ObjectStore(64 << 20)
    names = [block_name(secret.label, secret.chain_values(ids, 16)[0]) for ids in every]
    for name in names[::2]:
        store.put(build_object(name, 1, b"x", sign))
    guesses = [block_name(secret.label, PUBLIC.chain_values(ids, 16)[0]) + ndn.METADATA for ids in every]
    assert all(store.find(name, can_be_prefix=True) is None for name in guesses)
    taken = [steps(lambda name=name: store.find(name, can_be_prefix=True)) for name in guesses]  # type: ignore[misc]
    assert len(set(taken)) == 1
    known = [steps(lambda name=name: store.find(name + ndn.METADATA, can_be_prefix=True)) for name in names]  # type: ignore[misc]
    assert set(known[::2]).isdisjoint(known[1::2]), "the member's own names show the difference"


def _signer() -> Callable[..., bytes]:
    def sign(name: Name, content: bytes, **options: int) -> bytes:
        return encode_data(name, content, info=SignatureInfo(1, USER), signer=lambda _: os.urandom(32))

    return sign
