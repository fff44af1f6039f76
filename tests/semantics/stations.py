"""Private forwarders to put scenarios to, NFD and ours, and commands for them.

Owns: starting and stopping, configuration files, addresses, signed commands. Must not know: scenarios' steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer import ndn
from ndn_infer.config import ForwarderConfig
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from ndn_infer.ndn import lp, packet, tlv
from ndn_infer.ndn.tlv import Framer, encode_nonneg, encode_tlv
from tests.daemons import stop
from tests.semantics.scenario import Scenario

READY_S: Final = 20.0
PORTS_TRIED: Final = 3
MANAGEMENT: Final = ndn.from_uri("/localhost/nfd")


def outside_address() -> str | None:
    """An IPv4 address of this machine that is not loopback. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        host: str = probe.getsockname()[0]
        return None if host.startswith("127.") else host


@dataclass(frozen=True, slots=True)
class Station:
    """A running forwarder: its Unix socket and its UDP port."""

    path: str
    udp: tuple[str, int]


Starter = Callable[[Scenario, Path, bool], contextlib.AbstractContextManager[Station]]

NFD_CONF: Final = """general {{ }}
log {{ default_level ERROR }}
forwarder {{ default_hop_limit 0 }}
tables {{
  cs_max_packets {packets}
  cs_policy lru
  cs_unsolicited_policy drop-all
  strategy_choice {{
    / /localhost/nfd/strategy/best-route
    /localhost /localhost/nfd/strategy/multicast
    /localhost/nfd /localhost/nfd/strategy/best-route
    /ndn/broadcast /localhost/nfd/strategy/multicast
  }}
  network_region {{ {regions} }}
}}
face_system {{
  general {{ enable_congestion_marking yes }}
  unix {{ path {path} }}
  {udp}
}}
authorizations {{ authorize {{ certfile any privileges {{ faces fib cs strategy-choice }} }} }}
rib {{ localhost_security {{ trust-anchor {{ type any }} }} readvertise_nlsr no }}
"""


NFD_UDP: Final = "udp { listen yes port %d enable_v4 yes enable_v6 no idle_timeout 600 unicast_mtu 8800 mcast no }"


@contextlib.contextmanager
def nfd(scenario: Scenario, folder: Path, neighbours: bool) -> Iterator[Station]:
    """A private NFD, stopped by pid. It cannot be told an address for UDP, so it has that for `neighbours` only."""
    program = shutil.which("nfd")
    assert program is not None
    host = outside_address() or "127.0.0.1"
    for attempt in range(PORTS_TRIED):
        port = _free_udp_port(host)
        path, conf, log_path = (folder / f"{attempt}.{kind}" for kind in ("sock", "conf", "log"))
        regions = "\n".join(scenario.regions)
        udp = NFD_UDP % port if neighbours else ""
        text = NFD_CONF.format(packets=scenario.cs_packets, path=path, udp=udp, regions=regions)
        conf.write_text(re.sub(r"([{}])", r"\n\1\n", text))  # boost reads one brace a line
        with log_path.open("w") as log:
            process = subprocess.Popen(
                [program, "--config", str(conf)], env={**os.environ, "HOME": str(folder)}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, text=True,
            )  # fmt: skip
            try:
                if _comes_up(process, path):
                    yield Station(str(path), (host, port))
                    return
            finally:
                stop(process)
    raise AssertionError(f"NFD does not start: {log_path.read_text()[-500:]}")


def _comes_up(process: subprocess.Popen[str], path: Path) -> bool:
    """False when it ends at once: somebody else took the port in between."""
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists():
            with contextlib.suppress(Refused, OSError), connect(str(path)) as sock:
                until_ready(sock)
                return True
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def ours(scenario: Scenario, folder: Path, neighbours: bool) -> Iterator[Station]:
    """Our forwarder on a loop of its own, in a thread."""
    path, host = str(folder / "ours.sock"), outside_address() or "127.0.0.1"
    options = ForwarderConfig(
        unix_path=path,
        udp_bind=(f"{host}:0",) if neighbours else (),
        cs_capacity_packets=scenario.cs_packets,
        producer_regions=tuple(scenario.regions),
        udp_mtu_bytes=8800,
        similar="forward",
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> ForwarderDaemon:
        daemon = ForwarderDaemon(options)
        await daemon.start()
        return daemon

    try:
        daemon = asyncio.run_coroutine_threadsafe(start(), loop).result(READY_S)
        try:
            yield Station(path, daemon.udp_address or (host, 0))
        finally:
            asyncio.run_coroutine_threadsafe(daemon.close(), loop).result(READY_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(READY_S)
        loop.close()


def _free_udp_port(host: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


# ---------------------------------------------------------------- commands


class Refused(Exception):
    """The forwarder did not do as told."""


_TIMES_LOCK: Final = threading.Lock()
_last_time_ms = 0


def _rising_time_ms() -> int:
    """NFD refuses a second command of one time."""
    global _last_time_ms
    with _TIMES_LOCK:
        _last_time_ms = max(_last_time_ms + 1, time.time_ns() // 1_000_000)
        return _last_time_ms


def command(sock: socket.socket, verb: str, fields: bytes, *, timeout_s: float = 10.0) -> dict[int, bytes]:
    """Fields of the ControlParameters in the reply. Raises Refused, TimeoutError."""
    name = MANAGEMENT + ndn.from_uri(verb) + ndn.generic(encode_tlv(0x68, fields))
    info = packet.SignatureInfo(packet.SIGNATURE_DIGEST_SHA256, nonce=os.urandom(8), time_ms=_rising_time_ms())
    wire, _ = packet.encode_interest(
        name, nonce=os.urandom(4), must_be_fresh=True, parameters=b"", info=info, signer=packet.digest_signer
    )
    sock.settimeout(timeout_s)
    sock.sendall(wire)
    framer = Framer()
    while True:
        chunk = sock.recv(65536)
        if not chunk:
            raise Refused(f"the connection ended at {verb}")
        for reply in framer.feed(chunk):
            link = lp.decode_lp(reply)
            if link.nack_reason is not None:
                raise Refused(f"nobody takes {verb}")
            content = packet.decode_data(link.fragment).content
            if b"\x66\x01\xc8" not in content[:8]:  # StatusCode 200
                raise Refused(f"{verb}: {content!r}")
            response = _fields(content)[0x65]
            return _fields(_fields(response).get(0x68, b""))


def _fields(wire: bytes) -> dict[int, bytes]:
    return {kind: wire[start:end] for kind, start, end in tlv.iterate(wire)}


def number(kind: int, value: int) -> bytes:
    return encode_tlv(kind, encode_nonneg(value))


def name_field(uri: str) -> bytes:
    return ndn.encode_name(ndn.from_uri(uri))


def connect(path: str) -> socket.socket:
    """The file is there a moment before somebody listens."""
    deadline = time.monotonic() + READY_S
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
        except ConnectionRefusedError:
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return sock


def until_ready(sock: socket.socket) -> None:
    """NFD listens before its RIB does."""
    for _ in range(40):
        try:
            command(sock, "/rib/unregister", name_field("/nothing"), timeout_s=0.5)
        except TimeoutError:
            continue
        except Refused as refused:
            if "ended" in str(refused):
                raise
            time.sleep(0.02)
        else:
            return
    raise Refused("the forwarder takes no commands")
