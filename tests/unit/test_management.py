"""Management cannot be reached from another host, by whatever way an Interest finds to its face."""

from __future__ import annotations

import pytest

from ndn_infer import ndn
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.forwarder.management.manager import PREFIX, Management
from ndn_infer.ndn.packet import DIGEST_INFO, digest_signer, encode_interest
from tests.forwarder_world import World, link

VICTIM = ndn.from_uri("/victim")
COMMAND = ndn.from_uri("/rib/register") + ndn.generic(ControlParameters(name=VICTIM).encode())


def command(prefix: ndn.Name, **options: object) -> bytes:
    name = prefix + COMMAND
    return encode_interest(name, nonce=b"abcd", parameters=b"", info=DIGEST_INFO, signer=digest_signer, **options)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "prefix",
    [
        PREFIX,
        ndn.generic(b"x" * (len(PREFIX) - 2)),  # as long as /localhost/nfd: cut there, the rest is a command
        ndn.generic("localhost") + ndn.keyword("nfd"),
        ndn.from_uri("/localhop/nfd"),
    ],
    ids=["plain", "same length", "other type", "localhop"],
)
@pytest.mark.parametrize("hinted", [False, True], ids=["", "hint"])
def test_no_command_from_another_host(prefix: ndn.Name, hinted: bool) -> None:
    """A ForwardingHint /localhost/nfd leads to management's face; only what is named below it is a command."""
    world = World()
    world.add_face("P")
    management = Management(world.core, wall_us=lambda: 1)
    world.receive("P", command(prefix, hints=(PREFIX,) if hinted else ()), 0.0)
    management.run(0.0)
    assert not list(world.core.rib.items()) and not [wire for _, wire in world.sent if b"Success" in wire]


def test_a_chosen_next_hop_brings_no_other_name_to_management() -> None:
    world = World()
    world.add_face("c").link.local_fields = True
    management = Management(world.core, wall_us=lambda: 1)
    for prefix, registered in ((ndn.generic(b"x" * (len(PREFIX) - 2)), 0), (PREFIX, 1)):
        world.receive("c", link(command(prefix), next_hop_face_id=management.face.id), 0.0)
        management.run(0.0)
        assert len(list(world.core.rib.items())) == registered
