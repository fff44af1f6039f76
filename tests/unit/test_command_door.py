"""Which commands to a forwarder need proof, by its options."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ndn_infer import ndn
from ndn_infer.config import ForwarderConfig
from ndn_infer.errors import KeyNotAllowed
from ndn_infer.forwarder.management.access import CommandClaim
from ndn_infer.forwarder.shell.door import MAX_UNDECIDED, CommandDoor
from ndn_infer.ndn.packet import Interest

STRICT = ForwarderConfig(registration="own-identity", remote_commands="signed")
LOOSE = replace(STRICT, local_commands="any", loopback_commands="any")
ANY = Interest(ndn.from_uri("/x"))


def claim(module: str, verb: str, *, local: bool = True, private: bool = True, own_face: bool = False) -> CommandClaim:
    return CommandClaim(ANY, module, verb, ndn.from_uri("/a"), local, own_face, private)


async def verdict(door: CommandDoor, asked: CommandClaim) -> str | None:
    said: list[str | None] = []
    door.authorise(asked, said.append)
    for _ in range(5):
        await asyncio.sleep(0)
    (text,) = said
    return text


@pytest.mark.parametrize("options", [STRICT, LOOSE], ids=["strict", "loose"])
@pytest.mark.parametrize("private", [True, False], ids=["unix", "loopback"])
@pytest.mark.parametrize("local", [True, False], ids=["localhost", "localhop"])
async def test_whoever_says_where_names_lead_proves_it_whatever_else_is_open(
    options: ForwarderConfig, private: bool, local: bool
) -> None:
    async def check(asked: CommandClaim) -> None:
        raise KeyNotAllowed(f"{asked.verb} needs proof")

    door = CommandDoor(lambda: options, lambda: None)
    door.check = check
    for module, verb in (
        ("rib", "register"), ("rib", "unregister"), ("rib", "announce"), ("fib", "add-nexthop"),
        ("fib", "remove-nexthop"),
    ):  # fmt: skip
        assert await verdict(door, claim(module, verb, local=local, private=private)) == f"{verb} needs proof"
    await door.close()


async def test_what_does_not_say_where_names_lead_is_as_it_was() -> None:
    settled: list[bool] = []
    door = CommandDoor(lambda: STRICT, lambda: settled.append(True))
    assert await verdict(door, claim("faces", "create")) is None
    assert await verdict(door, claim("faces", "update", private=False, own_face=True)) is None
    assert await verdict(door, claim("rib", "register")) == "this forwarder wants signed commands", "no authority yet"
    open_door = CommandDoor(lambda: ForwarderConfig(), lambda: None)
    assert await verdict(open_door, claim("rib", "register")) is None
    assert await verdict(open_door, claim("rib", "register", local=False)) is not None

    async def check(asked: CommandClaim) -> None:
        return

    door.check = check
    assert await verdict(door, claim("rib", "register")) is None and settled == [True]


async def test_commands_that_wait_for_certificates_are_bounded_and_end_with_the_forwarder() -> None:
    async def check(asked: CommandClaim) -> None:
        await asyncio.Event().wait()

    door, said = CommandDoor(lambda: STRICT, lambda: None), list[str | None]()
    door.check = check
    for _ in range(MAX_UNDECIDED + 3):
        door.authorise(claim("rib", "register"), said.append)
    assert len(said) == 3 and all(text and "try again" in text for text in said)
    await door.close()
    assert not door._undecided
