"""A repo keeps objects of others by name, so that they are answered when their producers are gone.

ndn-infer repo serve                         keep objects on this machine, until SIGINT or SIGTERM
ndn-infer repo insert NAME                   have an object kept; returns when it is (--no-pin: while there is room)
ndn-infer repo delete NAME
ndn-infer repo list [PREFIX]
ndn-infer repo status

Who may command is up to the trust schema: any role of the repo's site may insert and list; to delete takes the key of
the repo's machine, of its site, or of the operator (--as).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ndn_infer import ndn
from ndn_infer.apps.exposing import exposed
from ndn_infer.config import Config
from ndn_infer.console.progress import ProgressLine
from ndn_infer.console.signals import stop_on_signals
from ndn_infer.console.terminal import one_line
from ndn_infer.errors import NdnInferError, UsageError
from ndn_infer.functions.registry import ROLES
from ndn_infer.metrics.catalogue import REPO_ITEMS
from ndn_infer.metrics.meters import Meters, Sample
from ndn_infer.namespace import REPO, Machine, certificates_prefix, operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.node.keys import ensure_keys, net_name, role_identity
from ndn_infer.node.node import Node, replay_window, trust_schema
from ndn_infer.node.node_samples import read_node
from ndn_infer.repo.certificate_shelf import CertificateShelf
from ndn_infer.repo.parts import RepoParts
from ndn_infer.repo.pin_ledger import PinLedger
from ndn_infer.repo.records import RepoClient, RepoEntry
from ndn_infer.repo.repo import Repo
from ndn_infer.security.crypto import Signer
from ndn_infer.security.validator import Validator
from ndn_infer.storage.disk import DiskStore
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.storage.policy import policies_of
from ndn_infer.storage.tiered import TieredStore
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.serve import Server
from ndn_infer.transport.trust.certificates import certificate_fetcher
from ndn_infer.transport.trust.presence import Presence

log = logging.getLogger(__name__)

ACTIONS = ("serve", "insert", "delete", "list", "status")
STATUS_MEMORY_BYTES = 1 << 20
"""Objects are answered from the disk and its cache; memory is for what is made at the moment (status records)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("name", nargs="?", default="", help="the object, or for list a prefix")
    parser.add_argument("--repo", default="", metavar="IDENTITY", help="which repo (default: the one of this machine)")
    parser.add_argument("--as", dest="signer", default="", metavar="WHO",
                        help="sign as operator, site, node or a role (default: user; node for delete)")  # fmt: skip
    parser.add_argument("--hint", action="append", default=[], metavar="NAME",
                        help="insert: where the object can be reached without a route to its name")  # fmt: skip
    parser.add_argument("--pin", action=argparse.BooleanOptionalAction, default=True,
                        help="insert: never evict it, and answer when it is durable")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="insert: no progress")
    parser.add_argument("--wait", type=float, default=600.0, metavar="SECONDS", help="insert: give up after this long")
    parser.add_argument("--prefix", action="append", default=[], metavar="NAME",
                        help="serve: announce this prefix and keep nothing else; may be repeated (default: announce "
                        "every object by its name)")  # fmt: skip
    parser.add_argument("--path", type=Path, help="serve: file of the store (default: beside the keys)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--exit-with-parent", action="store_true", help="serve: stop when standard input closes")


def run(options: argparse.Namespace, config: Config) -> int:
    if options.action == "serve":
        return asyncio.run(_serve(options, config))
    if options.action in ("insert", "delete") and not options.name:
        raise UsageError(f"which object? ndn-infer repo {options.action} NAME")
    return asyncio.run(_command(options, config))


# ---------------------------------------------------------------- the daemon


async def _serve(options: argparse.Namespace, config: Config) -> int:
    stop = asyncio.Event()
    stop_on_signals(stop, with_parent=options.exit_with_parent)
    keychain = ensure_keys(config, (*ROLES, REPO))
    signer = keychain.signer_for(role_identity(config, REPO))
    path = options.path or config.keys_dir.parent / "repo" / "objects"
    policies = policies_of(config.producer.store_policies)
    store = TieredStore(
        STATUS_MEMORY_BYTES, DiskStore(path, config.producer.store_disk_mib << 20, policies=policies)
    )  # fmt: skip
    try:
        node = await Node.join(config, keychain)
        registrar = node.registrar
        repo = _repo(node, store, path, signer, tuple(map(ndn.from_uri, options.prefix)))
        kept = AsyncExitStack()
        presence = Presence(node.net, repo.server, registrar, keychain.certificates)
        try:
            await presence.begin()
            await presence.offer_certificates(signer.identity)
            repo.server.serve(signer.identity, signer)
            topic = presence.status_topic(lambda: presence.status(signer.identity, (REPO,), repo.status()))
            repo.questions.answer(topic, signer)
            await repo.start()
            meters = Meters()
            read_node(meters, node)
            meters.read_from("repo", lambda: _samples(repo))
            await kept.enter_async_context(exposed(config, [meters]))
            print(f"READY repo {ndn.to_uri(signer.identity)} pid={os.getpid()} at {node.uri}", flush=True)
            await stop.wait()
        finally:
            await kept.aclose()
            await repo.close()
            await registrar.close()
            await node.close()
    finally:
        store.close()
    return 0


def _samples(repo: Repo) -> Iterator[Sample]:
    for item, value in repo.status().items():
        yield Sample(REPO_ITEMS, (item,), value)


def _repo(node: Node, store: TieredStore, path: Path, signer: Signer, prefixes: tuple[Name, ...]) -> Repo:
    """A repo of this node, with a validator of its own: the certificates that it fetches are worth keeping."""
    config = node.config
    shelf = CertificateShelf(path.with_name(f"{path.name}.certificates"))
    pins = PinLedger(path.with_name(f"{path.name}.pins"), store.disk.capacity_bytes)
    validator = Validator(
        trust_schema(config), node.keychain.anchor,
        shelf.recording(certificate_fetcher(node.endpoint)), max_depth=config.trust.max_chain_depth,
        seen=node.validator.seen, replay=replay_window(config),
    )  # fmt: skip
    own = node.keychain.certificates()
    shelf.see(*own)
    validator.add_certificates(*own, *shelf.certificates)
    server = Server(node.endpoint, store)
    fetcher = Fetcher(node.endpoint, validator, config.fetch)
    parts = RepoParts(
        node.endpoint, server, store, fetcher, validator, node.registrar, shelf, signer, pins
    )  # fmt: skip
    return Repo(parts, prefixes=prefixes)


# ---------------------------------------------------------------- the client


async def _command(options: argparse.Namespace, config: Config) -> int:
    keychain = ensure_keys(config, ROLES)
    signer = keychain.signer_for(_signing_identity(options, config))
    node = await Node.join(config, keychain, offer_own=True)
    registrar = Registrar(node.endpoint, node.signer())
    try:
        # a repo on another machine asks us for the certificate that vouches for the command
        keys = certificates_prefix(signer.identity)
        Server(node.endpoint, ObjectStore(0)).answer_certificates(keys, keychain.certificates)
        try:
            await registrar.register(keys)
        except NdnInferError as error:
            log.info("%s; the repo must have our certificates", error)
        repo = ndn.from_uri(options.repo) if options.repo else role_identity(config, REPO)
        client = RepoClient(node.endpoint, node.validator, node.net, repo, signer)
        await _give(client, options)
    finally:
        await registrar.close()
        await node.close()
    return 0


def _signing_identity(options: argparse.Namespace, config: Config) -> Name:
    who = options.signer or ("node" if options.action == "delete" else "user")
    net = net_name(config)
    if who == "operator":
        return operator_identity(net)
    if who == "site":
        return net + ndn.generic(config.network.site)
    if who == "node":
        return Machine(config.network.site, config.network.node).to_name(net)
    return role_identity(config, who)


async def _give(client: RepoClient, options: argparse.Namespace) -> None:
    name = ndn.from_uri(options.name or "/")
    document: Any
    if options.action == "insert":
        hints = tuple(map(ndn.from_uri, options.hint))
        with ProgressLine(quiet=options.quiet or options.json) as progress:
            entry = await client.insert(
                name, hints=hints, pin=options.pin, deadline_s=options.wait,
                progress=lambda done, total: progress("fetching" if total else "waiting", done, total),
            )  # fmt: skip
        document, text = asdict(entry), f"kept: {_line(entry)}"
    elif options.action == "delete":
        await client.delete(name)
        document, text = {"deleted": ndn.to_uri(name)}, f"deleted: {ndn.to_uri(name)}"
    elif options.action == "list":
        entries = [entry async for entry in client.list(name)]
        document, text = [asdict(entry) for entry in entries], "\n".join(map(_line, entries)) or "nothing is kept"
    else:
        status = await client.status()
        document = asdict(status)
        text = (
            f"{status.objects} objects, {status.pinned_objects} pinned; "
            f"{status.used_bytes / 1e6:.1f} of {status.capacity_bytes / 1e6:.1f} MB\n"
            f"evicted {status.evicted}, damaged {status.damaged}, not written {status.unwritten}, "
            f"fetching {status.working}" + ("\nthe disk cannot be written" if status.read_only else "")
        )
    print(json.dumps(document) if options.json else text)


def _line(entry: RepoEntry) -> str:
    return one_line(f"{entry.name}  {entry.size} bytes{'  pinned' if entry.pinned else ''}")
