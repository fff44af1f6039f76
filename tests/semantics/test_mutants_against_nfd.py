"""Packets with elements dropped, doubled, swapped, retyped, resized and inserted: what NFD passes on we pass on, what
it drops we drop. Needs `nfd` on PATH.

pytest -m nfd tests/semantics
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.ndn import lp, packet, tlv
from ndn_infer.ndn.tlv import Framer
from tests.semantics.scenario import Scenario
from tests.semantics.stations import Starter, command, connect, name_field, nfd, ours

pytestmark = [
    pytest.mark.nfd,
    pytest.mark.skipif(shutil.which("nfd") is None, reason="nfd is not on PATH"),
]

COUNT = 400
TYPES = (
    0x07, 0x0A, 0x0C, 0x12, 0x1E, 0x1F, 0x21, 0x22, 0x24, 0x2C, 0x2E, 0x14, 0x15, 0x16, 0x17, 0x18, 0x1A, 0x1B, 0x1C,
    0xF0, 0xF1, 0xFD,
)  # fmt: skip
VALUES = (b"", b"\0", b"\1", b"\0\0", b"\0\0\0", b"\0\0\x10\0", b"\x08\x01a", b"\x07\x03\x08\x01a", b"\x1b\x01\0")

Element = tuple[int, bytes]


def elements_of(wire: bytes) -> list[Element]:
    _, start, end = tlv.read_header(wire, 0, len(wire))
    return [(kind, wire[value:after]) for kind, value, after in tlv.iterate(wire, start, end)]


def mutated(wire: bytes, rng: random.Random) -> bytes:
    """Elements behind the Name change, one to three times; every number stays shortest (NFD ends with SIGSEGV at some
    that are not)."""
    kind, (name, *rest) = wire[0], elements_of(wire)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(rest)) if rest else 0
        unknown = (rng.choice(TYPES), rng.choice(VALUES))
        change = rng.choice("drop double swap retype resize insert inner".split())
        if change == "insert" or not rest:
            rest.insert(at, unknown)
        elif change == "drop":
            del rest[at]
        elif change == "double":
            rest.insert(at, rest[at])
        elif change == "swap":
            other = rng.randrange(len(rest))
            rest[at], rest[other] = rest[other], rest[at]
        elif change == "retype":
            rest[at] = unknown[0], rest[at][1]
        elif change == "resize":
            rest[at] = rest[at][0], unknown[1]
        else:
            rest[at] = rest[at][0], rest[at][1] + tlv.encode_tlv(*unknown)
    return tlv.encode_tlv(kind, b"".join(tlv.encode_tlv(*element) for element in (name, *rest)))


class Bench:
    """An asker and an answerer at one forwarder; after each mutant a packet that must come through tells the end."""

    def __init__(self, path: str) -> None:
        self.asker, self.answerer = connect(path), connect(path)
        command(self.answerer, "/rib/register", name_field("/m"))
        self._framers = {self.asker: Framer(), self.answerer: Framer()}
        self._count = 0
        self._wait_for_the_route()

    def _wait_for_the_route(self) -> None:
        """NFD answers a registration before it forwards by it."""
        self.answerer.settimeout(0.05)
        for _ in range(100):
            self.asker.sendall(self._interest())
            with contextlib.suppress(TimeoutError):
                if self._framers[self.answerer].feed(self.answerer.recv(65536)):
                    return
        raise AssertionError("the route never works")

    def close(self) -> None:
        self.asker.close()
        self.answerer.close()

    def interest_passes(self, mutant: bytes) -> bool:
        self.asker.sendall(mutant + self._interest())
        return len(self._until(self.answerer, self._mark())) > 1

    def data_passes(self, mutant: bytes, name: ndn.Name) -> bool:
        wire, _ = packet.encode_interest(name, nonce=self._count.to_bytes(4, "big"), lifetime_ms=300)
        self.asker.sendall(wire + self._interest())
        self._until(self.answerer, self._mark())
        self.answerer.sendall(mutant + packet.encode_data(self._mark(), b"mark"))
        return len(self._until(self.asker, self._mark())) > 1

    def _mark(self) -> ndn.Name:
        return ndn.from_uri(f"/m/mark/{self._count}")

    def _interest(self) -> bytes:
        self._count += 1
        return packet.encode_interest(self._mark(), nonce=self._count.to_bytes(4, "big"), lifetime_ms=4000)[0]

    def _until(self, sock: socket.socket, mark: ndn.Name) -> list[bytes]:
        """What comes up to the packet of this name; Nacks, which say that nobody takes it, do not count."""
        found: list[bytes] = []
        sock.settimeout(5.0)
        while True:
            try:
                chunk = sock.recv(65536)
            except TimeoutError as error:
                raise AssertionError(f"packet {self._count} was the last that went through") from error
            assert chunk, "the connection ended"
            for wire in self._framers[sock].feed(chunk):
                link = lp.decode_lp(wire)
                if link.nack_reason is None:
                    found.append(link.fragment)
            if found and mark in found[-1]:
                return found


def verdicts(starter: Starter, folder: Path, judge: Callable[[Bench], list[bool]]) -> list[bool]:
    folder.mkdir()
    with starter(Scenario("mutants (PF Interest)", []), folder, False) as station:
        bench = Bench(station.path)
        try:
            return judge(bench)
        finally:
            bench.close()


def known_difference(mutant: bytes) -> bool:
    """What NFD passes and we do not (DIFFERENT in test_against_nfd.py): an empty ForwardingHint, and parameters without
    a digest in the name. And a digest without parameters: NFD lets it pass unless it has to encode the Interest again,
    for its HopLimit or a missing Nonce (Interest::wireEncode)."""
    (_, name), *rest = elements_of(mutant)
    kinds = [kind for kind, _ in rest]
    if (0x1E, b"") in rest or (0x24 in kinds and b"\x02\x20" not in name):
        return True
    return b"\x02\x20" in name and 0x24 not in kinds and (0x22 in kinds or 0x0A not in kinds)


def compare(tmp_path: Path, mutants: list[bytes], judge: Callable[[Bench], list[bool]]) -> None:
    theirs, here = (verdicts(starter, tmp_path / starter.__name__, judge) for starter in (nfd, ours))
    assert {False, True} == set(theirs)
    assert {mutant.hex(): said for mutant, said, own in zip(mutants, theirs, here, strict=True) if said != own} == {}


def test_mutated_interests_go_where_nfd_lets_them_go(tmp_path: Path) -> None:
    rng, mutants = random.Random(1), list[bytes]()
    for number in range(COUNT):
        wire, _ = packet.encode_interest(
            ndn.from_uri(f"/m/i/{number}"), nonce=number.to_bytes(4, "big"), can_be_prefix=rng.random() < 0.5,
            must_be_fresh=rng.random() < 0.5, lifetime_ms=1000, hop_limit=5 if rng.random() < 0.5 else None,
            hints=(ndn.from_uri("/m"),) if rng.random() < 0.3 else (), parameters=b"p" if rng.random() < 0.4 else None,
        )  # fmt: skip
        mutants.append(mutated(wire, rng))
    mutants = [mutant for mutant in mutants if not known_difference(mutant)]
    compare(tmp_path, mutants, lambda bench: [bench.interest_passes(mutant) for mutant in mutants])


def test_mutated_data_goes_where_nfd_lets_it_go(tmp_path: Path) -> None:
    rng, mutants = random.Random(1), list[bytes]()
    names = [ndn.from_uri(f"/m/d/{number}") for number in range(COUNT)]
    for name in names:
        wire = packet.encode_data(
            name, b"content", freshness_ms=rng.choice((0, 1000)), content_type=rng.choice((0, 2)),
            final_block=ndn.segment(1) if rng.random() < 0.5 else None,
        )  # fmt: skip
        mutants.append(mutated(wire, rng))
    compare(
        tmp_path, mutants,
        lambda bench: [bench.data_passes(mutant, name) for mutant, name in zip(mutants, names, strict=True)],
    )  # fmt: skip
