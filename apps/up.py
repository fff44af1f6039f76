"""Run a whole network on this machine, in the foreground: forwarder and producers, as processes of their own.

Prints one READY line when prompts will be answered: then `ndn-infer ask` in another terminal uses it. A producer that
dies is started again. Stops cleanly on SIGINT and SIGTERM. With -v it logs every request.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from ndn_infer.apps.produce import MODEL_HELP, corpus_alias
from ndn_infer.config import Config, texts
from ndn_infer.console.signals import stop_on_signals
from ndn_infer.functions import registry
from ndn_infer.local.network import CommonFlags, EmbeddedNetwork, ServedParts, embedded
from ndn_infer.local.prepare import prepared, served_model
from ndn_infer.node.keys import ensure_keys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--functions", type=texts, default=(), metavar="LIST", help="producers to start (default: producer.functions)"
    )
    parser.add_argument("--model", action="append", default=[], metavar="MODEL[,OPTION=VALUE]", help=MODEL_HELP)
    parser.add_argument("--corpus", type=Path, help="also serve this folder of documents (rag)")
    parser.add_argument(
        "--corpus-domain", default="", metavar="NAME", help="serve it to members of a tenant domain only"
    )
    parser.add_argument("--corpus-name", default="", help="alias of the corpus (default: the folder's name)")


def run(options: argparse.Namespace, config: Config) -> int:
    names = registry.known(options.functions or config.producer.functions)
    ensure_keys(config, registry.roles(names))
    embedder = config.ask.embedder
    models = [served_model(config, text) for text in options.model or [config.ask.model]]
    for model in models:
        prepared(config, model.name)
    if options.corpus is not None:
        names += [name for name in ("embed", "rag", "cite") if name not in names]
    if "embedder" in registry.needs(names):
        prepared(config, embedder)
    if "classifier" in registry.needs(names):
        prepared(config, config.guard.classifier)
    alias = options.corpus_name or (corpus_alias(options.corpus) if options.corpus is not None else "")
    served = ServedParts(
        names, [model.text for model in models], embedder, options.corpus, alias, options.corpus_domain
    )
    flags = CommonFlags(options.config, options.settings, options.verbose)
    network = embedded(config, served, flags, private=False)
    return asyncio.run(_serve(network))


async def _serve(network: EmbeddedNetwork) -> int:
    stop = asyncio.Event()
    stop_on_signals(stop)
    starting = asyncio.ensure_future(network.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 130
    await starting
    functions = ", ".join(child.title for child in network.producers)
    print(f"READY {network.uri} ({functions})", flush=True)
    keepers = [asyncio.ensure_future(child.keep()) for child in network.children]
    try:
        await stop.wait()
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        print("stopping", file=sys.stderr, flush=True)
        await network.stop()
    return 0
