"""Run the embedded forwarder alone: an NDN forwarder for one machine and for tests.

Any NDN application can use it: it speaks NFD's management protocol (nfdc, python-ndn, NDNts). Between machines run NFD
or NDNd. Prints one READY line; stops cleanly on SIGINT and SIGTERM; on SIGHUP it reads its configuration again and
applies it without dropping faces. Options stand under [forwarder] in 'ndn-infer config --explain'.

examples:
  ndn-infer forwarder --tcp 127.0.0.1:6363 --udp 127.0.0.1:6363 --ws 127.0.0.1:9696
  ndn-infer forwarder --metrics 127.0.0.1:9464                    # Prometheus: GET /metrics
  ndn-infer forwarder --trace trace.jsonl                         # why was my packet dropped?
  ndn-infer forwarder --set forwarder.cs_disk_path=cs.sqlite      # a Content Store that survives a restart
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from ndn_infer import config as configuration
from ndn_infer.config import Config, ForwarderConfig
from ndn_infer.config.values import grant
from ndn_infer.console.logs import set_up_logging
from ndn_infer.console.signals import stop_on_signals
from ndn_infer.errors import Nacked, NdnInferError, Timeout
from ndn_infer.forwarder.management.access import CommandClaim
from ndn_infer.forwarder.shell import turns
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from ndn_infer.forwarder.shell.door import CommandCheck
from ndn_infer.forwarder.shell.trace_file import TraceFile
from ndn_infer.functions.registry import ROLES
from ndn_infer.namespace import kind_label
from ndn_infer.ndn.lp import LpPacket, encode_lp
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import encode_interest
from ndn_infer.node.keys import ensure_keys, net_name
from ndn_infer.node.node import replay_window, trust_schema
from ndn_infer.node.runtime_dir import make_runtime_dir
from ndn_infer.security.command_authority import CommandAuthority
from ndn_infer.security.validator import Validator
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.links import connect
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.trust.certificates import certificate_fetcher

log = logging.getLogger(__name__)

TRACE_FLUSH_S = 0.5
DIRECT_FETCH_MS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--unix", default="", metavar="PATH", help="Unix socket (default: forwarder.unix_path)")
    several = "; may be repeated, and :PORT is all addresses, IPv4 and IPv6"
    for kind, protocol in (("tcp", "TCP"), ("udp", "UDP"), ("ws", "WebSocket")):
        parser.add_argument(
            f"--{kind}", action="append", default=[], metavar="HOST:PORT", help=f"accept {protocol} faces{several}"
        )
    parser.add_argument("--metrics", action="append", default=[], metavar="HOST:PORT", help="serve Prometheus metrics")
    parser.add_argument("--trace", default="", metavar="FILE", help="write a JSON line for every packet and every drop")
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input closes")


def run(options: argparse.Namespace, config: Config) -> int:
    if not (options.unix or config.forwarder.unix_path):
        make_runtime_dir(config)
    return turns.run(_Running(options, config).serve())


def with_flags(arguments: argparse.Namespace, config: Config) -> ForwarderConfig:
    """What the configuration and the flags say together."""
    settings = config.forwarder
    return replace(
        settings,
        unix_path=arguments.unix or str(config.socket_path),
        tcp_bind=tuple(arguments.tcp) or settings.tcp_bind,
        udp_bind=tuple(arguments.udp) or settings.udp_bind,
        ws_bind=tuple(arguments.ws) or settings.ws_bind,
        metrics_bind=tuple(arguments.metrics) or settings.metrics_bind or config.metrics.binds,
        trace_file=arguments.trace or settings.trace_file,
    )


class _Running:
    """One forwarder process: the daemon, its trace, its authority, and what SIGHUP does."""

    def __init__(self, arguments: argparse.Namespace, config: Config) -> None:
        self._arguments = arguments
        self._config = config
        net = net_name(config)
        self._daemon = ForwarderDaemon(with_flags(arguments, config), kind_of=lambda name: kind_label(net, name))
        self._trace: TraceFile | None = None
        self._flusher: asyncio.TimerHandle | None = None
        self._endpoint: Endpoint | None = None
        self._validator: Validator | None = None

    async def serve(self) -> int:
        stop = asyncio.Event()
        stop_on_signals(stop, with_parent=self._arguments.exit_with_parent)
        loop = asyncio.get_running_loop()
        reloads: set[asyncio.Task[None]] = set()

        def reload() -> None:
            task = loop.create_task(self._reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        await self._daemon.start()
        # Collections of the oldest generation stop a forwarder with 100,000 pending Interests for 0.1 s. What is there
        # now stays anyway, and packets make no cycles.
        gc.collect()
        gc.freeze()
        gc.set_threshold(700, 50, 1000)
        try:
            await self._apply(replace(self._config, forwarder=self._daemon.options))
            loop.add_signal_handler(signal.SIGHUP, reload)
            print(f"READY forwarder at unix://{self._daemon.options.unix_path}", flush=True)
            await stop.wait()
        finally:
            await self._close_authority()
            await self._daemon.close()
            self._stop_trace()
        return 0

    async def _reload(self) -> None:
        """Read the configuration again. A mistake in it changes nothing."""
        arguments = self._arguments
        try:
            config = configuration.load(file=arguments.config, environment=os.environ, flags=arguments.settings)
            options = with_flags(arguments, config)
            set_up_logging(arguments.verbose, config.log)
            changed = await self._daemon.reload(options)
            await self._apply(replace(config, forwarder=options))
        except NdnInferError as error:
            print(f"ndn-infer: configuration not applied: {error}", file=sys.stderr, flush=True)
            return
        self._config = config
        print(f"RELOADED {', '.join(changed) or 'nothing to change in the forwarder'}", flush=True)

    async def _apply(self, config: Config) -> None:
        """What stands beside the daemon: trace and authority."""
        path = config.forwarder.trace_file
        self._stop_trace()
        if path:
            offset_s = time.time() - asyncio.get_running_loop().time()
            self._trace = self._daemon.core.trace = TraceFile(Path(path), offset_s)
            self._flush_trace()
        await self._close_authority()
        if "signed" in (config.forwarder.local_commands, config.forwarder.remote_commands):
            self._daemon.check = await self._authority(config)
        elif "own-identity" == config.forwarder.registration or config.forwarder.loopback_commands == "signed":
            self._daemon.check = self._when_asked(config)

    def _when_asked(self, config: Config) -> CommandCheck:
        """The same, made for the first command that needs it: most forwarders never see one."""
        made: CommandCheck | None = None
        making = asyncio.Lock()

        async def check(claim: CommandClaim) -> None:
            nonlocal made
            async with making:
                if made is None:
                    made = await self._authority(config)
            await made(claim)

        return check

    async def _authority(self, config: Config) -> CommandCheck:
        """Verify commands against this network's trust anchor; certificates are fetched through ourselves."""
        uri = f"unix://{self._daemon.options.unix_path}"
        self._endpoint = Endpoint(lambda: connect(uri, config.network.connect_timeout_s))
        await self._endpoint.open()
        net, keychain = net_name(config), ensure_keys(config, ROLES)
        await Registrar(self._endpoint).enable_local_fields()
        fetch = _fetcher_from_senders(self._endpoint)
        self._validator = Validator(trust_schema(config), keychain.anchor, fetch, replay=replay_window(config))
        self._validator.add_certificates(*keychain.certificates())
        authority = CommandAuthority(self._validator, net, map(grant, config.forwarder.grants))

        async def check(claim: CommandClaim) -> None:
            _SENDER.set(claim.face_id)
            await authority.check(claim.interest, claim.module, claim.prefix)

        return check

    async def _close_authority(self) -> None:
        self._daemon.check = None
        if self._validator is not None:
            await self._validator.aclose()
        if self._endpoint is not None:
            await self._endpoint.close()
        self._validator = self._endpoint = None

    def _flush_trace(self) -> None:
        assert self._trace is not None
        self._trace.flush()
        self._flusher = asyncio.get_running_loop().call_later(TRACE_FLUSH_S, self._flush_trace)

    def _stop_trace(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
        if self._trace is not None:
            self._trace.close()
        self._flusher = self._trace = self._daemon.core.trace = None


_SENDER: ContextVar[int] = ContextVar("the face of the command that is being checked", default=0)


def _fetcher_from_senders(endpoint: Endpoint) -> Callable[[Name], Awaitable[bytes]]:
    """Certificates by name, and where that fails from whoever sent the command: before its first registration nobody
    has a route to an application of another host (NFD, CertificateFetcherDirectFetch)."""
    by_name = certificate_fetcher(endpoint)

    async def fetch(name: Name) -> bytes:
        try:
            return await by_name(name)
        except (Nacked, Timeout):
            if not _SENDER.get():
                raise
        wire, _ = encode_interest(name, nonce=os.urandom(4), can_be_prefix=True, lifetime_ms=DIRECT_FETCH_MS)
        link = encode_lp(LpPacket(wire, next_hop_face_id=_SENDER.get()))
        data, _ = await endpoint.exchange(link, name, can_be_prefix=True, lifetime_s=DIRECT_FETCH_MS / 1000)
        return data.wire

    return fetch
