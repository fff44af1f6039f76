"""Run a producer: some functions of this machine, joined to the forwarder of the NDN client configuration.

The forwarder may be the embedded one, NFD or NDNd (NDN_CLIENT_TRANSPORT, client.conf). Functions: tokenize, embed,
prefill, decode, guard, classify (guard.classifier), rag (with --corpus), stage:0-14 and decode:15-29 for some layers of
a model (docs/pipeline.md), or package.module:Class for one of your own. Prints one READY line when calls will be
answered; stops cleanly on SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ndn_infer import catalog
from ndn_infer.apps.exposing import exposed, traced, tracer_of
from ndn_infer.apps.upkeep import upkeep
from ndn_infer.config import Config, texts
from ndn_infer.console.progress import ProgressLine
from ndn_infer.console.signals import stop_on_signals
from ndn_infer.errors import ConfigError, MissingKey, UsageError
from ndn_infer.functions import registry
from ndn_infer.functions.base import Host, NamedFunction
from ndn_infer.functions.compose import build_producer
from ndn_infer.functions.producer import Producer
from ndn_infer.functions.registry import Ingredients
from ndn_infer.local.network import NO_ALIAS
from ndn_infer.local.prepare import ServedModel, network_name, prepared, publish_aliases, served_model
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.records import CorpusRecord
from ndn_infer.security.domain_store import DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC, Domain
from ndn_infer.security.keychain import Keychain
from ndn_infer.telemetry.spans import Tracer
from ndn_infer.wire.manifest import ObjectPackets

log = logging.getLogger(__name__)

MODEL_HELP = (
    "alias, Hugging Face id, folder or .gguf file; repeat it for several models; options of [engine] for this model "
    "follow, like smollm2-135m-instruct,weights=int4"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--functions", type=texts, default=(), metavar="LIST", help="comma-separated (default: producer.functions)"
    )
    parser.add_argument("--model", action="append", default=[], metavar="MODEL[,OPTION=VALUE]", help=MODEL_HELP)
    parser.add_argument("--embedder", default="", help="embedding model of embed and rag")
    parser.add_argument("--corpus", type=Path, help="folder of documents that rag serves")
    parser.add_argument(
        "--corpus-domain", default="", metavar="NAME", help="serve it to members of a tenant domain only"
    )
    parser.add_argument("--corpus-name", default="", help="alias of the corpus (default: the folder's name; '-': none)")
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input closes")


def run(options: argparse.Namespace, config: Config) -> int:
    names = registry.known(options.functions or config.producer.functions)
    models = [served_model(config, text) for text in options.model or [config.ask.model]]
    embedder = network_name(config, options.embedder or config.ask.embedder)
    if "corpus" in registry.needs(names) and options.corpus is None:
        raise ConfigError("rag serves a corpus: give its folder with --corpus DIR")
    keychain = ensure_keys(config, registry.roles(names))
    parts, paths = gather(config, keychain, names, models, embedder)
    if "guard" in names:
        paths += catalog.policies_in(config.catalog_dir)
    return asyncio.run(_serve(options, config, keychain, names, parts, paths))


def gather(
    config: Config, keychain: Keychain, names: list[str], models: Sequence[ServedModel], embedder: str
) -> tuple[list[Ingredients], list[Path]]:
    """Prepared models for these functions, one after the other, and the catalogue files of their aliases. Raises
    UsageError for a model that is there twice."""
    parts = [Ingredients(model.config) for model in models]
    folders, needs = {}, registry.needs(names)
    if "model" in needs:
        for model, part in zip(models, parts, strict=True):
            folders[model.name] = folder = prepared(config, model.name)
            if any(folder.digest == other.model for other in parts):
                raise UsageError(f"{model.name} is given twice: one process computes a model in one way")
            part.model, part.folder = folder.digest, folder.path
    if "embedder" in needs:
        folders[embedder] = folder = prepared(config, embedder)
        parts[0].embedder, parts[0].embedder_folder = folder.digest, folder.path
    if "classifier" in needs:
        name = network_name(parts[0].config, parts[0].config.guard.classifier)
        folders[name] = folder = prepared(config, name)
        parts[0].classifier, parts[0].classifier_folder = folder.digest, folder.path
    return parts, publish_aliases(config, keychain, folders)


@dataclass(frozen=True, slots=True)
class Side:
    """Functions behind one face."""

    names: list[str]
    node: Node
    producer: Producer
    host: Host

    @classmethod
    async def begin(
        cls, stack: AsyncExitStack, config: Config, keychain: Keychain, names: list[str], tracer: Tracer | None
    ) -> Side:  # fmt: skip
        """Joined to the network. It is left with the stack."""
        node = await Node.join(config, keychain)
        stack.push_async_callback(node.close)
        producer, host = build_producer(node, registry.spec_of(names[0]).role, tracer=tracer)
        stack.callback(host.server.store.close)
        stack.push_async_callback(producer.close)
        return cls(names, node, producer, host)


async def _serve(
    options: argparse.Namespace, config: Config, keychain: Keychain, names: list[str], parts: list[Ingredients],
    paths: list[Path],
) -> int:  # fmt: skip
    stop = asyncio.Event()
    stop_on_signals(stop, with_parent=options.exit_with_parent)
    async with AsyncExitStack() as stack:
        tracer = tracer_of(config, ",".join(names))
        await stack.enter_async_context(traced(config, tracer))
        sides = [await Side.begin(stack, config, keychain, group, tracer) for group in registry.faces(names)]
        main = sides[-1]
        work = asyncio.ensure_future(_offer_sides(options, keychain, sides, parts, paths))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work  # raises what went wrong
            async with AsyncExitStack() as kept:
                await kept.enter_async_context(exposed(main.node.config, [side.host.meters for side in sides]))
                _say_ready(main.node, names)
                for side in sides:
                    await kept.enter_async_context(
                        upkeep(side.producer, side.host, side.node, registry.roles(side.names))
                    )
                await stop.wait()
        else:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        stopping.cancel()
    return 0


async def _offer_sides(
    options: argparse.Namespace, keychain: Keychain, sides: Sequence[Side], parts: list[Ingredients], paths: list[Path]
) -> None:
    """Everything of every side; the records of the catalogue behind the last. A corpus is indexed by calls, to what
    other processes offer or an earlier side."""
    for side in sides:
        if "corpus" in registry.needs(side.names):
            first = parts[0]
            first.corpus_domain = domain = _corpus_domain(options, first.config)
            first.corpus = await _open_corpus(options.corpus, first.config, side.host, first.embedder, domain)
            if domain is PUBLIC:
                paths = [*paths, *_publish_corpus_alias(options, first.config, keychain, first)]
            elif (alias := options.corpus_name or corpus_alias(options.corpus)) != NO_ALIAS:
                first.corpus_alias = alias
        functions = registry.build(side.names, *(part.behind_another_face() for part in parts))
        records = catalog.load(paths) if side is sides[-1] else []
        await _offer_all(side.producer, side.host, side.node, functions, records)


async def _offer_all(
    producer: Producer, host: Host, node: Node, functions: list[NamedFunction[Any]], records: list[ObjectPackets]
) -> None:
    await producer.begin()
    for function in functions:
        signer = node.signer_as(function.role)
        await producer.offer(function, signer)
        log.info("offering %s of %s %s", function.function, *function.subject)
    signer = node.signer_as(functions[0].role)
    for packets in records:
        host.server.put(packets, pinned=True)
        await producer.offer_object(packets.base, signer)


def _corpus_domain(options: argparse.Namespace, config: Config) -> Domain:
    """The newest epoch of the domain that the corpus is for. Raises MissingKey for a domain of others."""
    if not options.corpus_domain:
        return PUBLIC
    return tenant_of(DomainStore(config.keys_dir).find(options.corpus_domain)).newest


async def _open_corpus(folder: Path, config: Config, host: Host, embedder: str, domain: Domain) -> Any:
    from ndn_infer.functions.embedding import Embedding
    from ndn_infer.functions.rag import open_corpus

    with ProgressLine() as line:
        progress = partial(line, f"embedding {folder.name}")
        return await open_corpus(
            folder, config.cache_dir, Embedding(host.caller, embedder, domain.label), config.ask.ranking, progress
        )


def _publish_corpus_alias(
    options: argparse.Namespace, config: Config, keychain: Keychain, parts: Ingredients
) -> list[Path]:
    """Catalogue files of the corpus; none where it shall have no alias, or where the operator's key is not."""
    assert parts.corpus is not None
    alias = options.corpus_name or corpus_alias(options.corpus)
    if alias == NO_ALIAS:
        return []
    corpus = parts.corpus
    record = CorpusRecord(alias, corpus.digest, len(corpus.passages), parts.embedder, corpus.ranking)
    before = catalog.known(config.catalog_dir, "corpus", alias)
    if before is not None and before != record.digest:
        log.warning("corpus alias %s meant other texts before; now it means those in %s", alias, options.corpus)
    try:
        return catalog.publish(config.catalog_dir, keychain, record)
    except MissingKey:
        log.warning("the operator's key is not here, so this corpus has no alias; callers name it by %s", record.digest)
        return []


def corpus_alias(folder: Path) -> str:
    """A folder's name as an alias: letters, digits, '.', '_' and '-'."""
    name = folder.resolve().name or "corpus"
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in name)


def _say_ready(node: Node, names: list[str]) -> None:
    print(f"READY {','.join(names)} pid={os.getpid()} at {node.uri}", flush=True)
