"""Prefix registration with a forwarder, by NFD's management protocol.

Owns: rib/register and rib/unregister commands, their signing, retry and refresh, and the face option that makes the
forwarder tell where Data came from. Must not know: who answers the Interests that then arrive.

A forwarder of this host is commanded below /localhost/nfd. One of another host has only /localhop/nfd/rib for us, and
wants a signature that its operator's rules accept (NFD: rib.localhop_security; ours: forwarder.remote_commands).

One command at a time with strictly rising timestamps: NFD refuses what looks replayed (NFD #4500; python-ndn #34).
Registrations run out and are repeated, so a forwarder that restarts learns them again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from dataclasses import dataclass, replace
from typing import Final, Protocol

from ndn_infer import clock, ndn
from ndn_infer.errors import BadPacket, Nacked, NdnInferError, RegistrationRefused, Timeout
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import DIGEST_INFO, SignatureInfo, digest_signer, encode_interest
from ndn_infer.ndn.tlv import decode_nonneg, encode_nonneg, encode_tlv
from ndn_infer.transport.link.endpoint import Endpoint

log = logging.getLogger(__name__)

_LOCAL: Final = ndn.from_uri("/localhost/nfd")
_REMOTE: Final = ndn.from_uri("/localhop/nfd")
_ORIGIN_CLIENT: Final = 65
_FLAG_CHILD_INHERIT: Final = 1
_FLAG_CAPTURE: Final = 2
ATTEMPTS: Final = 4
ATTEMPTS_REFUSED: Final = 6
REFUSED_PAUSE_S: Final = (0.002, 0.05)


class CommandSigner(Protocol):
    """A key of ours (security.crypto.Signer)."""

    @property
    def info(self) -> SignatureInfo: ...

    def sign(self, portion: bytes) -> bytes: ...


class _DigestSigner:
    info = DIGEST_INFO

    def sign(self, portion: bytes) -> bytes:
        return digest_signer(portion)


@dataclass(frozen=True, slots=True)
class ControlResponse:
    code: int
    text: str
    body: bytes = b""
    """A ControlParameters TLV, where there is one: what the forwarder did, e.g. the id of a face."""


class Registrar:
    """Keeps prefixes registered on one endpoint.

    `expiry_s` is how long the forwarder keeps a route that is not refreshed; `refresh_s` how often we refresh.
    `origin` 65 asks routing daemons (NLSR, NDNd) to announce the prefix to the network.
    """

    def __init__(self, endpoint: Endpoint, signer: CommandSigner | None = None, *, refresh_s: float = 60.0) -> None:
        self._endpoint = endpoint
        self._signer: CommandSigner = signer or _DigestSigner()
        self._refresh_s = refresh_s
        self._lock = asyncio.Lock()
        self._last_ms = 0
        self._prefixes: dict[Name, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._shut = ""
        """Why a forwarder of another host takes no commands."""
        endpoint.on_connected(self._after_reconnect)

    @property
    def prefixes(self) -> tuple[Name, ...]:
        return tuple(self._prefixes)

    async def start(self) -> None:
        """Ask for IncomingFaceId on Data (best effort) and begin refreshing."""
        await self.enable_local_fields()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Stop refreshing and withdraw every prefix, as far as the forwarder still answers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for prefix in list(self._prefixes) if self._endpoint.connected else []:
            try:
                await self.unregister(prefix)
            except NdnInferError:
                break

    async def register(self, prefix: Name, *, capture: bool = False, insist: bool = True) -> None:
        """Register and keep registered. `capture`: Interests below it come to nobody who has registered a shorter
        prefix of it. Without `insist` the first refusal counts. Raises RegistrationRefused (403: not allowed),
        Timeout."""
        flags = _FLAG_CHILD_INHERIT | (_FLAG_CAPTURE if capture else 0)
        await self._register_once(prefix, flags, insist=insist)
        self._prefixes[prefix] = flags

    async def unregister(self, prefix: Name) -> None:
        self._prefixes.pop(prefix, None)
        await self.command("rib", "unregister", _parameters(prefix, origin=_ORIGIN_CLIENT))

    async def command(
        self, module: str, verb: str, parameters: bytes, *, attempts: int = ATTEMPTS
    ) -> ControlResponse:  # fmt: skip
        """One management command with `parameters` (a ControlParameters TLV); retried when unanswered.

        Raises Timeout or Nacked when the forwarder does not answer, BadPacket when it answers nonsense.
        """
        prefix = _LOCAL if self._endpoint.local else _REMOTE
        name = prefix + ndn.generic(module) + ndn.generic(verb) + ndn.generic(parameters)
        for attempt in range(attempts):
            try:
                async with self._lock:
                    return await self._command_once(name)
            except (Timeout, Nacked) as error:
                if attempt == attempts - 1 or (isinstance(error, Nacked) and self._endpoint.local):
                    raise  # a forwarder of another host may not have opened its prefix for commands yet
            await asyncio.sleep(0.05 * (1 << attempt))
        raise AssertionError("unreachable")

    async def _command_once(self, name: Name) -> ControlResponse:
        self._last_ms = max(self._last_ms + 1, clock.wall_ms())
        info = replace(self._signer.info, nonce=os.urandom(8), time_ms=self._last_ms)
        wire, full_name = encode_interest(
            name, nonce=os.urandom(4), must_be_fresh=True, lifetime_ms=1000, info=info, signer=self._signer.sign
        )
        data, _ = await self._endpoint.exchange(wire, full_name, lifetime_s=1.0)
        return decode_response(data.content)

    async def _register_once(self, prefix: Name, flags: int, *, insist: bool = True) -> None:
        if self._shut:
            raise self._no_commands()
        try:
            await self._ask_for(prefix, flags, ATTEMPTS_REFUSED if insist else 0)
        except (Timeout, Nacked) as error:
            if self._endpoint.local:
                raise
            self._shut = str(error)
            raise self._no_commands() from error

    def _no_commands(self) -> RegistrationRefused:
        """One that stayed silent once is not asked for every prefix: not before the next connection or refresh."""
        return RegistrationRefused(
            f"the forwarder of another host rejects our commands: {self._shut}",
            hint="its operator opens /localhop/nfd/rib: rib.localhop_security of NFD, forwarder.remote_commands=signed "
            "of ours; and our keys must be ones that it accepts",
        )

    async def _ask_for(self, prefix: Name, flags: int, again: int) -> None:
        expires_ms = int(self._refresh_s * 4 * 1000)
        parameters = _parameters(prefix, origin=_ORIGIN_CLIENT, flags=flags, expires_ms=expires_ms)
        response = await self.command("rib", "register", parameters)
        for _ in range(again):
            if response.code != 403:
                break
            # NFD wants the times of one key's commands to rise, and programs that register at the same moment with the
            # same key, or with none, overtake each other: perhaps it was only that.
            await asyncio.sleep(random.uniform(*REFUSED_PAUSE_S))
            response = await self.command("rib", "register", parameters)
        if response.code != 200:
            uri = ndn.to_uri(prefix)
            raise RegistrationRefused(
                f"the forwarder rejects prefix {uri}: {response.code} {response.text}",
                code=response.code,
                hint="a zero-trust forwarder grants prefixes by certificate; ask its operator for this one",
            )

    async def enable_local_fields(self) -> None:
        """Ask the forwarder to tell where Data comes from (IncomingFaceId): once, and one of another host never, since
        that is for its own host only. Where it does not, nothing is known of caches."""
        if not self._endpoint.local:
            return
        flags = encode_tlv(0x6C, b"\x01") + encode_tlv(0x70, b"\x01")
        try:
            await self.command("faces", "update", encode_tlv(0x68, flags), attempts=1)
        except NdnInferError as error:
            log.debug("the forwarder does not report where Data comes from: %s", error)

    async def _after_reconnect(self) -> None:
        await self.enable_local_fields()
        await self._refresh()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            await self._refresh()

    async def _refresh(self) -> None:
        self._shut = ""
        for prefix, flags in list(self._prefixes.items()):
            try:
                await self._register_once(prefix, flags)
            except NdnInferError as error:
                log.warning("could not refresh %s: %s", ndn.to_uri(prefix), error)


def _parameters(prefix: Name, *, origin: int, flags: int | None = None, expires_ms: int | None = None) -> bytes:
    """ControlParameters of a rib command; fields in NFD's order."""
    fields = [ndn.encode_name(prefix), encode_tlv(0x6F, encode_nonneg(origin))]
    if flags is not None:
        fields.append(encode_tlv(0x6A, b"\x00") + encode_tlv(0x6C, encode_nonneg(flags)))
    if expires_ms is not None:
        fields.append(encode_tlv(0x6D, encode_nonneg(expires_ms)))
    return encode_tlv(0x68, b"".join(fields))


def decode_response(content: bytes) -> ControlResponse:
    """A ControlResponse. Raises BadPacket."""
    kind, value, end = tlv.read_header(content, 0, len(content))
    if kind != 0x65:
        raise BadPacket("not a ControlResponse")
    fields = {kind: content[start:after] for kind, start, after in tlv.iterate(content, value, end)}
    if 0x66 not in fields:
        raise BadPacket("a ControlResponse has a StatusCode")
    body = tlv.encode_tlv(0x68, fields[0x68]) if 0x68 in fields else b""
    return ControlResponse(decode_nonneg(fields[0x66]), fields.get(0x67, b"").decode("utf-8", "replace"), body)
