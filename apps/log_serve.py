"""log serve and log witness: what runs until it is told to end.

Owns: what these processes are made of. Must not know: what a command does (prompt_log/live/).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.console.signals import stop_on_signals
from ndn_infer.console.terminal import one_line
from ndn_infer.errors import NdnInferError, UsageError
from ndn_infer.functions.registry import ROLES
from ndn_infer.namespace import LOG
from ndn_infer.node.keys import ensure_keys, role_identity
from ndn_infer.node.node import Node
from ndn_infer.prompt_log.checkpoint import CONSISTENT
from ndn_infer.prompt_log.live.book import LogBook
from ndn_infer.prompt_log.live.log import PromptLog
from ndn_infer.prompt_log.live.reader import LogReader
from ndn_infer.prompt_log.live.users import UserKeys
from ndn_infer.prompt_log.live.witness import Witness, words
from ndn_infer.prompt_log.live.witness_service import WitnessService
from ndn_infer.security.askers import Askers
from ndn_infer.storage.disk import DiskStore
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.storage.tiered import TieredStore
from ndn_infer.transport.calls.direct import Questions
from ndn_infer.transport.objects.serve import Server
from ndn_infer.transport.trust.presence import Presence

log = logging.getLogger(__name__)

MEMORY_BYTES = 1 << 20


def folder_of(options: argparse.Namespace, config: Config) -> Path:
    """Where a log's files are."""
    return options.path or config.keys_dir.parent / "log"


async def serve(options: argparse.Namespace, config: Config) -> int:
    stop = asyncio.Event()
    stop_on_signals(stop, with_parent=options.exit_with_parent)
    keychain = ensure_keys(config, (*ROLES, LOG))
    signer = keychain.signer_for(role_identity(config, LOG))
    folder = folder_of(options, config)
    users = UserKeys(folder / "users")
    store = TieredStore(MEMORY_BYTES, DiskStore(folder / "objects", config.producer.store_disk_mib << 20))
    async with AsyncExitStack() as ends:
        ends.callback(store.close)
        node = await Node.join(config, keychain, offer_own=True)
        ends.push_async_callback(node.close)
        book = LogBook(store.disk, node.net, signer)
        kept = PromptLog(book, users, node.fetcher)
        ends.push_async_callback(kept.close)
        server = Server(node.endpoint, store)
        questions = Questions(server, Askers(node.validator))
        ends.push_async_callback(questions.close)
        presence = Presence(node.net, server, node.registrar, keychain.certificates)
        await presence.begin()
        await presence.offer_certificates(signer.identity)
        server.serve(signer.identity, signer)
        kept.answer(questions, signer)
        topic = presence.status_topic(lambda: presence.status(signer.identity, (LOG,), kept.status()))
        questions.answer(topic, signer)
        if (signed := book.sign_again()) is not None:
            await asyncio.wrap_future(signed)
        await node.registrar.register(signer.identity)
        await node.registrar.start()
        print(f"READY log {ndn.to_uri(signer.identity)} records={book.tree.size} pid={os.getpid()}", flush=True)
        await stop.wait()
    return 0


# ---------------------------------------------------------------- witnesses


async def watch(options: argparse.Namespace, config: Config) -> int:
    """Exit status 4 with --once when a log is found at fault."""
    logs = [ndn.from_uri(text) for text in options.what]
    if not logs:
        raise UsageError("of which logs? ndn-infer log witness IDENTITY ...")
    stop = asyncio.Event()
    stop_on_signals(stop, with_parent=options.exit_with_parent)
    keychain = ensure_keys(config, (*ROLES, LOG))
    signer = keychain.signer_for(role_identity(config, LOG))
    async with AsyncExitStack() as ends:
        node = await Node.join(config, keychain, offer_own=True)
        ends.push_async_callback(node.close)
        readers = [LogReader.of(node.net, name, node.fetcher, node.validator) for name in logs]
        server = Server(node.endpoint, ObjectStore(MEMORY_BYTES))
        service = WitnessService(node.net, Witness(folder_of(options, config) / "seen"), readers, server, signer)
        presence = Presence(node.net, server, node.registrar, keychain.certificates)
        if not options.once:
            questions = Questions(server)
            ends.push_async_callback(questions.close)
            await presence.begin()
            await presence.offer_certificates(signer.identity)
            for prefix in service.answer(questions):
                await node.registrar.register(prefix)
            await node.registrar.start()
            print(f"READY witness {ndn.to_uri(signer.identity)} of {len(logs)} logs pid={os.getpid()}", flush=True)
        fault = False
        while not stop.is_set():
            fault = await _look(service)
            if options.once:
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), options.every)
    return 4 if fault and options.once else 0


async def _look(service: WitnessService) -> bool:
    """Whether one of the logs is at fault. What cannot be reached is said, and looked for again."""
    fault = False
    for reader in service.readers:
        try:
            said, verdict = await service.look(reader)
        except NdnInferError as error:
            print(one_line(f"{ndn.to_uri(reader.names.log)}: {error}"), file=sys.stderr, flush=True)
            continue
        fault |= bool(said.fault) or verdict != CONSISTENT
        print(one_line(f"{words(said)} [{verdict}]"), flush=True)
    return fault
