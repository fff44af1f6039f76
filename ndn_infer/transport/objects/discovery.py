"""Discovery: which versions of an object there are, by its signed metadata packet.

Owns: the questions, what is believed of their answers (signatures, denials of just now, no version older than one that
was seen), and asking again past caches. Must not know: segments, what an object holds.
"""

from __future__ import annotations

import asyncio
import math
import os
from dataclasses import replace
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.errors import (
    BadPacket,
    KeyNotAllowed,
    Nacked,
    NdnInferError,
    StaleDenial,
    StaleVersion,
    Timeout,
    TrustError,
)
from ndn_infer.namespace import parse_base
from ndn_infer.ndn.lp import REASON_NO_ROUTE
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import Data, decode_data
from ndn_infer.security.validator import Validator
from ndn_infer.transport.link.endpoint import Arrival, Endpoint
from ndn_infer.transport.objects.fetched import Discovered, FetchStats
from ndn_infer.transport.objects.pull import PullLoop, Want
from ndn_infer.wire import again
from ndn_infer.wire.manifest import Manifest, decode_manifest, is_absent, said_at

METADATA_PAUSES_S = (0.0, 0.0, 0.1, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6)
"""Before each attempt at a metadata packet: the last ones come after the validator forgot a bad certificate."""

DENIAL_AGE_S = 10.0
"""An "absent" whose time differs more from our clock is asked for again, with a nonce that it must repeat."""

NO_ROUTE_S = 2.0
"""A forwarder that restarts knows its producers again by then."""

WAITING_LIFETIME_MS = 1000
"""Interests for what does not exist yet are renewed so often: a lost one costs a second, not its whole lifetime."""


FUTURE_S: Final = 86_400.0
"""A record dated more than a day ahead would shut out all that its signer makes until then."""

_CLOCKS: Final = "compare the clocks of this machine and of the signer"


class Discovery:
    """Shares the window of `pulls`. What it refused is counted in `counts`."""

    def __init__(self, endpoint: Endpoint, validator: Validator, pulls: PullLoop, counts: FetchStats) -> None:
        self._endpoint = endpoint
        self._validator = validator
        self._pulls = pulls
        self._counts = counts

    async def discover(
        self, base: Name, *, hints: tuple[Name, ...] = (), version: int | None = None, past_caches: bool = False,
        patient: bool = True,
    ) -> Discovered:  # fmt: skip
        """The newest version of the object at `base`, or exactly `version`, and its verified manifest: one round trip.

        What somebody else says about the base, absent for example, is no answer to a question for one version.
        What cannot be believed is asked for again past every cache (wire.again); `past_caches` does so from the start.
        So is an "absent" that was not said just now: somebody may play back an old one.
        Without `patient` the first "no route" is believed. Raises Timeout, Nacked, or the TrustError of the last bad
        packet.
        """
        name = base + METADATA + (b"" if version is None else ndn.version(version) + ndn.segment(0))
        last: NdnInferError | None = None
        refused: set[bytes] = set()
        began = clock.monotonic()
        for pause_s in METADATA_PAUSES_S:
            nonce = os.urandom(again.NONCE_BYTES) if past_caches or last is not None else b""
            await asyncio.sleep(pause_s)
            try:
                data, arrival = await self._metadata(name, hints, nonce, newest=version is None, patient=patient)
                return replace(await self._judge(data, arrival, nonce), began=began)
            except KeyNotAllowed as error:
                last = error
                self._pulls.on_refused(name, error, data.wire)
                if data.wire in refused and not self._validator.permits(data):
                    break  # the producer itself says so: it has the keys of another role or network
                refused.add(data.wire)
            except (TrustError, BadPacket) as error:
                self._counts.bad_packets += 1
                self._pulls.tell_refused(base, error)
                self._pulls.on_refused(name, error, b"")
                last = error
        assert last is not None
        raise last

    async def await_object(
        self, base: Name, *, hints: tuple[Name, ...], deadline_s: float, no_route_s: float = NO_ROUTE_S
    ) -> Discovered:  # fmt: skip
        """Like `discover`, for an object that is still being made: Interests wait at its producer.

        Raises Timeout when it does not appear within `deadline_s`, Nacked when there is no route to its producer for
        `no_route_s`: it has gone.
        """
        give_up_at = clock.monotonic() + deadline_s
        no_route_until = math.inf
        name, nonce, began = base + METADATA, b"", clock.monotonic()
        while True:
            try:
                data, arrival = await self._endpoint.express(
                    again.question(name, nonce) if nonce else name, can_be_prefix=not nonce, must_be_fresh=True,
                    hints=hints, lifetime_ms=WAITING_LIFETIME_MS,
                )  # fmt: skip
                return replace(await self._judge(_inner(data.wire, name, nonce), arrival, nonce), began=began)
            except (Timeout, Nacked, TrustError, BadPacket) as error:
                nowhere = isinstance(error, Nacked) and error.reason == REASON_NO_ROUTE
                no_route_until = min(no_route_until, clock.monotonic() + no_route_s) if nowhere else math.inf
                if clock.monotonic() >= min(give_up_at, no_route_until):
                    raise
                if not isinstance(error, Timeout):
                    await asyncio.sleep(0.1)
                if isinstance(error, TrustError | BadPacket):
                    self._pulls.on_refused(name, error, b"")
                    nonce = os.urandom(again.NONCE_BYTES)

    async def _metadata(
        self, name: Name, hints: tuple[Name, ...], nonce: bytes, *, newest: bool, patient: bool
    ) -> tuple[Data, Arrival]:
        """What comes for a discovery, decoded, not verified; with `nonce`, past caches. Raises Timeout, Nacked,
        BadPacket."""
        packets: list[tuple[Data, Arrival]] = []

        def accept(wire: bytes, arrival: Arrival) -> None:
            packets.append((_inner(wire, name, nonce), arrival))

        asked = again.question(name, nonce) if nonce else name
        newest = newest and not nonce
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._one(
            Want(
                asked, accept, future, can_be_prefix=newest, must_be_fresh=newest, hints=hints, final=not patient
            )
        )  # fmt: skip
        return packets[0]

    async def _judge(self, data: Data, arrival: Arrival, nonce: bytes) -> Discovered:
        signed_by = await self._validator.validate(data)
        if not is_absent(data):
            manifest = decode_manifest(data)
            self._refuse_older(manifest)
            return Discovered(manifest, data, signed_by, arrival)
        if nonce and data.content != nonce:
            raise StaleDenial(f"{ndn.to_uri(data.name)} says that there is none, in answer to another question")
        if not nonce and abs(clock.wall_s() * 1e6 - said_at(data)) > DENIAL_AGE_S * 1e6:
            raise StaleDenial(f"{ndn.to_uri(data.name)} said that there is none, but not just now")
        return Discovered(None, data, signed_by, arrival)

    def _refuse_older(self, manifest: Manifest) -> None:
        """A record that its signer replaced stays well signed; who kept it can play it back."""
        base = manifest.base
        kind = parse_base(self._validator.net, base)
        if kind is None or not kind.lasting:
            return
        if manifest.version > (self._validator.now() + FUTURE_S) * 1e6:
            raise StaleVersion(f"{ndn.to_uri(manifest.name)} is dated in the future", hint=_CLOCKS)
        seen = self._validator.seen.newest(type(kind).__name__, base)
        if manifest.version < seen:
            raise StaleVersion(f"{ndn.to_uri(manifest.name)} is older than version {seen}, which was seen before")

    async def _one(self, want: Want) -> None:
        self._pulls.want(want)
        self._pulls.pump_soon()
        try:
            await want.future
        finally:
            self._pulls.drop(want)


def _inner(wire: bytes, name: Name, nonce: bytes) -> Data:
    """The metadata packet that came, alone or as the answer to a question past caches. Raises BadPacket."""
    return decode_data(again.unwrap_named(wire, name, prefix=True) if nonce else wire)
