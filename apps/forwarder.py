"""Run the embedded forwarder alone: an NDN forwarder for one machine and for tests.

Any NDN application can use it: it speaks NFD's management protocol. Between machines run NFD or NDNd. Prints one READY
line; stops cleanly on SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio

from ndn_infer.apps.processes import stop_on_signals
from ndn_infer.config import Config
from ndn_infer.forwarder.daemon import ForwarderDaemon
from ndn_infer.forwarder.options import ForwarderOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--unix", default="", metavar="PATH", help="Unix socket (default: forwarder.unix_path)")
    parser.add_argument("--tcp", default="", metavar="HOST:PORT", help="accept TCP faces")
    parser.add_argument("--udp", default="", metavar="HOST:PORT", help="accept UDP faces")
    parser.add_argument("--ws", default="", metavar="HOST:PORT", help="accept WebSocket faces")
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input closes")


def run(options: argparse.Namespace, config: Config) -> int:
    return asyncio.run(_serve(options, config))


async def _serve(options: argparse.Namespace, config: Config) -> int:
    stop = asyncio.Event()
    stop_on_signals(stop, with_parent=options.exit_with_parent)
    settings = config.forwarder
    path = options.unix or str(config.socket_path)
    daemon = ForwarderDaemon(
        ForwarderOptions(
            unix_path=path,
            tcp_bind=options.tcp or settings.tcp_bind or None,
            udp_bind=options.udp or settings.udp_bind or None,
            ws_bind=options.ws or settings.ws_bind or None,
            cs_capacity_packets=settings.cs_capacity_packets,
            cs_capacity_bytes=settings.cs_capacity_mib << 20,
            face_queue_bytes=settings.face_queue_mib << 20,
            udp_mtu_bytes=settings.udp_mtu_bytes,
        )
    )
    await daemon.start()
    try:
        print(f"READY forwarder at unix://{path}", flush=True)
        await stop.wait()
    finally:
        await daemon.close()
    return 0
