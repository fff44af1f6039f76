"""Links: how packets get to a forwarder and back.

Owns: the Unix and TCP stream links of an application, and where the forwarder is (NDN_CLIENT_TRANSPORT, client.conf).
Must not know: what the packets say. An in-process link of the same shape is forwarder.inprocess.MemoryLink.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ndn_infer.addresses import is_loopback, split_host_port
from ndn_infer.errors import ConfigError, NoForwarder
from ndn_infer.ndn.tlv import READ_BYTES, Framer
from ndn_infer.wire.send_queue import SendQueue

log = logging.getLogger(__name__)

Receiver = Callable[[Sequence[bytes]], None]

UNIX_BUFFER_BYTES = 1 << 19

WRITE_BUFFER_BYTES = 4 << 20
"""A producer that answers faster than its forwarder reads stops being asked: beyond this, packets are dropped as on
any link, and consumers ask again."""


class Link(Protocol):
    """Carries whole packets (bare, or LpPackets). `receiver` is called with packets that arrived together, and keeps
    none of them where it lies (`Frames`): the next read overwrites it. `lost` is called once when the link is gone.
    What `send` was given leaves at the end of the event loop's turn, or at `flush`.
    """

    receiver: Receiver
    lost: Callable[[], None]
    local: bool
    """Whether the forwarder counts this link as one of its own host: it then answers /localhost, else /localhop."""

    def send(self, wire: bytes) -> None: ...

    def send_packed(self, wires: bytes, count: int) -> None:
        """`send` for `count` packets, which stand one after another in `wires`."""
        ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _ignore(_: Sequence[bytes]) -> None:
    return


def _nothing() -> None:
    return


_threads = threading.local()


def _room() -> bytearray:
    """What the links of this thread read into: a process may have several event loops, each in a thread."""
    if not hasattr(_threads, "room"):
        _threads.room = bytearray(READ_BYTES)
    room: bytearray = _threads.room
    return room


class StreamLink:
    """A Link over a connected Unix or TCP socket.

    Works on the plain socket: everything that one turn of the event loop produced leaves in one system call, and a
    large read brings many packets at once.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.receiver: Receiver = _ignore
        self.lost: Callable[[], None] = _nothing
        self.dropped = 0
        self._framer = Framer(room=_room())
        self._queue = SendQueue()
        self._flush_due = False
        self._receiving = False
        self._blocked = False
        self._closed = False
        self._socket = sock
        self.local = sock.family == socket.AF_UNIX or is_loopback(sock.getpeername()[0])
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_BUFFER_BYTES)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(sock, self._readable)

    def send(self, wire: bytes) -> None:
        self.send_packed(wire, 1)

    def send_packed(self, wires: bytes, count: int) -> None:
        if self._closed or self._queue.size > WRITE_BUFFER_BYTES:
            self.dropped += count
            return
        self._queue.append(wires)
        if not (self._flush_due or self._receiving):
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits, as far as the system takes it."""
        queue = self._queue
        while queue.size and not self._closed:
            try:
                queue.sent(self._socket.sendmsg(queue.head()))
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._end(error)
                return
        blocked = queue.size > 0 and not self._closed
        if blocked and not self._blocked:
            self._loop.add_writer(self._socket, self.flush)
        elif self._blocked and not blocked and not self._closed:
            self._loop.remove_writer(self._socket)
        self._flush_due = self._blocked = blocked

    def close(self) -> None:
        """Write what the system takes at once, and close."""
        if not self._closed:
            self.flush()
            self._end(None)

    def _readable(self) -> None:
        try:
            packets = self._framer.frames_from(self._socket.recv_into)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if packets:
            self._hand_over(packets)
        fault = self._framer.fault
        if fault is not None:
            log.warning("the forwarder sent bytes that are not packets (%s); closing the link", fault)
        if packets is None or fault is not None:
            self._end(None)

    def _hand_over(self, packets: Sequence[bytes]) -> None:
        """What this leads to leaves at once: another turn of the event loop would ask the system once more what there
        is to do."""
        self._receiving = True
        try:
            self.receiver(packets)
        finally:
            self._receiving = False
            self.flush()

    def _end(self, error: OSError | None) -> None:
        if self._closed:
            return
        if error is not None:
            log.debug("link lost: %s", error)
        self._closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._queue.clear()
        self._loop.call_soon(self.lost)


async def connect(uri: str, timeout_s: float) -> StreamLink:
    """Connect to a forwarder at `unix:///path`, `tcp://host[:port]` or `tcp4://`, `tcp6://`.

    Raises NoForwarder when nothing answers there, ConfigError for anything else.
    """
    family, path, (host, port) = parse_uri(uri)
    try:
        async with asyncio.timeout(timeout_s):
            if family == socket.AF_UNIX:
                return StreamLink(await _connected(family, path))
            return StreamLink(await _connected_tcp(family, host, port))
    except UnicodeError as error:
        raise ConfigError(f"cannot use forwarder address {uri!r}: no host has such a name", hint=_URIS) from error
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer"
        raise NoForwarder(f"no NDN forwarder at {uri}: {reason}") from error


def parse_uri(uri: str) -> tuple[int, str, tuple[str, int]]:
    """Address family, path of a Unix socket or "", host and port, of a forwarder's URI. Raises ConfigError."""
    scheme, separator, rest = uri.partition("://")
    try:
        if separator and scheme == "unix":
            if not rest.startswith("/") or "\0" in rest:
                raise ValueError("a Unix socket has an absolute path")
            return socket.AF_UNIX, rest, ("", 0)
        if separator and scheme in _FAMILIES:
            host, port = split_host_port(rest.removesuffix("/"), DEFAULT_PORT)
            if not host or not port:
                raise ValueError("host and port are missing or 0")
            return _FAMILIES[scheme], "", (host, port)
        raise ValueError(f"a forwarder has no address {scheme}://" if separator else "it has no scheme")
    except ValueError as error:
        raise ConfigError(f"cannot use forwarder address {uri!r}: {error}", hint=_URIS) from error


DEFAULT_PORT = 6363
_URIS = "use unix:///path or tcp://host:port (tcp4, tcp6; an IPv6 address in brackets)"
_FAMILIES = {"tcp": socket.AF_UNSPEC, "tcp4": socket.AF_INET, "tcp6": socket.AF_INET6}


async def _connected(family: int, address: str | tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected_tcp(family: int, host: str, port: int) -> socket.socket:
    """The first of the host's addresses that answers. Raises OSError of the last."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    for kind, _, _, _, address in found[:-1]:
        try:
            return await _connected(kind, address)
        except OSError as error:
            log.debug("no answer at %s: %s", address, error)
    return await _connected(found[-1][0], found[-1][4])


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
    """The `transport=` line of a client.conf, or "" without one. Raises ConfigError for a key that looks like it and is
    not: the file's other keys are for others to read."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    for line in lines:
        key, separator, value = line.split(";")[0].split("#")[0].partition("=")
        if separator and key.strip() == "transport":
            return value.strip()
        if separator and difflib.get_close_matches(key.strip().lower(), ["transport"], cutoff=0.8):
            raise ConfigError(f"{path}: unknown key {key.strip()!r}; did you mean 'transport'?")
    return ""
