"""Registration at forwarders of this host and of others: which names are asked, how often, signed by whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ndn_infer import ndn
from ndn_infer.errors import Nacked, RegistrationRefused, Timeout
from ndn_infer.forwarder.management.encoding import ControlParameters, decode_parameters
from ndn_infer.ndn.packet import Data, Interest, decode_data, decode_interest, encode_data
from ndn_infer.ndn.tlv import encode_nonneg, encode_tlv
from ndn_infer.security.crypto import ECDSA, PrivateKey, Signer
from ndn_infer.transport.link.registration import ATTEMPTS, Registrar, decode_response

PREFIX = ndn.from_uri("/net/home/n1/decode")
NODE = ndn.from_uri("/net/home/n1")


class Forwarder:
    """Shaped like an Endpoint: `answer` gives a status code for a command, or raises."""

    def __init__(self, answer: Callable[[str], int], *, local: bool) -> None:
        self.local = local
        self.connected = True
        self._answer = answer
        self.commands: list[str] = []
        self.signed: list[Interest] = []

    def on_connected(self, action: Any) -> None:
        self.reconnected = action

    async def exchange(self, wire: bytes, name: ndn.Name, *, lifetime_s: float) -> tuple[Data, None]:
        interest = decode_interest(wire)
        self.commands.append(ndn.to_uri(ndn.prefix(interest.name, 4)))
        self.signed.append(interest)
        code = self._answer(self.commands[-1])
        content = encode_tlv(0x65, encode_tlv(0x66, encode_nonneg(code)) + encode_tlv(0x67, b"OK"))
        return decode_data(encode_data(name, content)), None


def silent(_: str) -> int:
    raise Timeout("nothing")


def closed(_: str) -> int:
    raise Nacked("no route")


def registrar(forwarder: Forwarder, signer: Signer | None = None) -> Registrar:
    return Registrar(forwarder, signer)  # type: ignore[arg-type]


async def test_a_forwarder_of_another_host_is_asked_below_localhop_with_our_key_and_for_nothing_else() -> None:
    key = PrivateKey.generate(ECDSA)
    forwarder = Forwarder(lambda _: 200, local=False)
    made = registrar(forwarder, Signer.of(key, NODE, NODE + ndn.from_uri("/KEY/1/self/v=1")))
    await made.start()
    await made.register(PREFIX)
    await made.unregister(PREFIX)
    await made.close()
    assert forwarder.commands == ["/localhop/nfd/rib/register", "/localhop/nfd/rib/unregister"]
    info = forwarder.signed[0].signature_info
    assert info is not None and (info.key_locator or b"").startswith(NODE)


async def test_a_forwarder_of_this_host_is_asked_below_localhost() -> None:
    forwarder = Forwarder(lambda _: 200, local=True)
    made = registrar(forwarder)
    await made.start()
    await made.register(PREFIX)
    await made.close()
    assert forwarder.commands[:2] == ["/localhost/nfd/faces/update", "/localhost/nfd/rib/register"]


async def test_a_forwarder_that_knows_no_face_options_is_asked_for_them_once() -> None:
    forwarder = Forwarder(silent, local=True)
    await registrar(forwarder).enable_local_fields()
    assert forwarder.commands == ["/localhost/nfd/faces/update"]


@pytest.mark.parametrize("answer", [silent, closed])
async def test_a_forwarder_of_another_host_that_takes_no_commands_is_asked_for_one_prefix_only(
    answer: Callable[[str], int],
) -> None:
    forwarder = Forwarder(answer, local=False)
    made = registrar(forwarder)
    for _ in range(5):
        with pytest.raises(RegistrationRefused, match="another host rejects our commands") as caught:
            await made.register(PREFIX)
        assert "localhop_security" in caught.value.hint
    assert len(forwarder.commands) == ATTEMPTS
    await forwarder.reconnected()
    with pytest.raises(RegistrationRefused):
        await made.register(PREFIX)
    assert len(forwarder.commands) == 2 * ATTEMPTS


def test_a_response_carries_what_the_forwarder_did() -> None:
    head = encode_tlv(0x66, encode_nonneg(409)) + encode_tlv(0x67, b"it is there")
    body = ControlParameters(face_id=300, uri="udp4://10.0.0.1:6363").encode()
    found = decode_response(encode_tlv(0x65, head + body))
    assert (found.code, found.text) == (409, "it is there")
    assert decode_parameters(found.body).face_id == 300
    assert decode_response(encode_tlv(0x65, head)).body == b""
