"""Links: how packets get to a forwarder and back.

Owns: the Unix and TCP stream links of an application, and where the forwarder is (NDN_CLIENT_TRANSPORT, client.conf).
Must not know: what the packets say. An in-process link of the same shape is forwarder.inprocess.MemoryLink.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from ndn_infer.errors import BadPacket, ConfigError, NoForwarder
from ndn_infer.tlv import Framer

log = logging.getLogger(__name__)

Receiver = Callable[[bytes], None]

WRITE_BUFFER_BYTES = 4 << 20
"""A producer that answers faster than its forwarder reads stops being asked: beyond this, packets are dropped as on
any link, and consumers ask again."""


class Link(Protocol):
    """Carries whole packets (bare, or LpPackets). `receiver` is called with each packet that arrives; `lost` is called
    once when the link is gone."""

    receiver: Receiver
    lost: Callable[[], None]

    def send(self, wire: bytes) -> None: ...

    def close(self) -> None: ...


def _ignore(_: bytes) -> None:
    return


def _nothing() -> None:
    return


class StreamLink(asyncio.Protocol):
    """A Link over a Unix or TCP stream."""

    def __init__(self) -> None:
        self.receiver: Receiver = _ignore
        self.lost: Callable[[], None] = _nothing
        self.dropped = 0
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        try:
            packets = self._framer.feed(data)
        except BadPacket as error:
            log.warning("the forwarder sent bytes that are no packets (%s); closing the link", error)
            self.close()
            return
        receiver = self.receiver
        for wire in packets:
            receiver(wire)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.lost()

    def send(self, wire: bytes) -> None:
        if self._transport is None or self._transport.get_write_buffer_size() > WRITE_BUFFER_BYTES:
            self.dropped += 1
            return
        self._transport.write(wire)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connect(uri: str, timeout_s: float) -> StreamLink:
    """Connect to a forwarder at `unix:///path`, `tcp://host[:port]` or `tcp4://`, `tcp6://`.

    Raises NoForwarder when nothing answers there, ConfigError for another kind of URI.
    """
    loop = asyncio.get_running_loop()
    parts = urlsplit(uri)
    try:
        async with asyncio.timeout(timeout_s):
            if parts.scheme == "unix":
                _, link = await loop.create_unix_connection(StreamLink, parts.path)
                return link
            if parts.scheme in ("tcp", "tcp4", "tcp6") and parts.hostname:
                _, link = await loop.create_connection(StreamLink, parts.hostname, parts.port or 6363)
                return link
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "no answer"
        raise NoForwarder(f"no NDN forwarder at {uri}: {reason}") from error
    raise ConfigError(f"cannot use forwarder address {uri!r}", hint="use unix:///path or tcp://host:port")


def forwarder_uris(configured: str, embedded_socket: Path, environment: Mapping[str, str]) -> list[str]:
    """Where to look for a forwarder, in order; the first one that answers is used.

    An address that the user names (configuration or NDN_CLIENT_TRANSPORT) is the only one; otherwise a running
    embedded network, then client.conf as ndn-cxx reads it, then NFD's own defaults.
    """
    named = configured or environment.get("NDN_CLIENT_TRANSPORT", "")
    if named:
        return [named]
    uris = [f"unix://{embedded_socket}"]
    home = Path(environment.get("HOME") or os.path.expanduser("~"))
    for path in (home / ".ndn" / "client.conf", Path("/usr/local/etc/ndn/client.conf"), Path("/etc/ndn/client.conf")):
        transport = _client_conf_transport(path)
        if transport:
            return [*uris, transport]
    return [*uris, "unix:///run/nfd/nfd.sock", "unix:///run/nfd.sock"]


def _client_conf_transport(path: Path) -> str:
    """The `transport=` line of a client.conf, or "" without one."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    for line in lines:
        key, separator, value = line.split(";")[0].split("#")[0].partition("=")
        if separator and key.strip() == "transport":
            return value.strip()
    return ""
