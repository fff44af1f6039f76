"""Faces to other hosts: made on command, and connected again when they are permanent.

Owns: connecting, and trying again. Must not know: who asked for the face, forwarding.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ndn_infer.forwarder.core.faces import DOWN, UP, Face
from ndn_infer.forwarder.link.face_uri import FaceUri, parse_face_uri
from ndn_infer.forwarder.management.commands import FaceDone
from ndn_infer.forwarder.shell.listeners import connect_tcp
from ndn_infer.forwarder.shell.ports import Ports
from ndn_infer.forwarder.shell.sockaddr import address_of
from ndn_infer.forwarder.shell.transports import Core, StreamFace

log = logging.getLogger(__name__)

REDIAL_FIRST_S: Final = 0.25
REDIAL_LAST_S: Final = 30.0

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Dialer:
    """`changed` is told when a permanent face loses or regains its connection, `settle` when there is an answer."""

    def __init__(
        self,
        core: Core,
        ports: Ports,
        spawn: Spawn,
        *,
        changed: Callable[[int, Face], None],
        settle: Callable[[], None],
    ) -> None:
        self._core = core
        self._ports = ports
        self._spawn = spawn
        self._changed = changed
        self._settle = settle

    def make_face(self, uri: FaceUri, persistency: int, mtu: int | None, done: FaceDone) -> None:
        """A FaceMaker (management/commands.py)."""
        if uri.kind == "tcp":
            self._spawn(self._connect(uri, persistency, done))
            return
        try:
            peer = address_of(uri)
            udp = self._ports.udp_socket(6 if ":" in uri.host else 4)
        except OSError as error:
            done(None, 504, f"no UDP socket for {uri}: {error.strerror}")
            return
        done(udp.open_face(peer, persistency=persistency, mtu_bytes=mtu), 200, "OK")

    async def _connect(self, uri: FaceUri, persistency: int, done: FaceDone) -> None:
        try:
            sock = await connect_tcp(uri)
        except OSError as error:
            done(None, 504, f"Connection failed: {_reason(error)}")
        else:
            done(StreamFace(self._core, sock, "tcp", remote_uri=str(uri), persistency=persistency).face, 200, "OK")
        self._settle()

    def redial(self, stream: StreamFace) -> None:
        """Connect a permanent face that lost its connection."""
        self._changed(DOWN, stream.face)
        self._spawn(self._reconnect(stream))

    async def _reconnect(self, stream: StreamFace) -> None:
        """Try until the face has a connection or is gone; every time after twice as long."""
        uri, pause_s = parse_face_uri(stream.face.uri), REDIAL_FIRST_S
        while not stream.is_closed():
            try:
                sock = await connect_tcp(uri)
            except OSError as error:
                log.debug("face %d: %s", stream.face.id, error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, REDIAL_LAST_S)
                continue
            if stream.is_closed():
                sock.close()
            else:
                stream.attach(sock)
                log.info("face %d is connected again: %s", stream.face.id, stream.face.uri)
                self._changed(UP, stream.face)
            return


def _reason(error: OSError) -> str:
    """As the system words it; asyncio puts the address there."""
    return os.strerror(error.errno) if error.errno is not None else str(error)
