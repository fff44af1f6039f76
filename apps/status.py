"""What the network looks like from here: faces, routes, Content Store, producers and their queues.

Asks the forwarder by NFD's management datasets, so it works with NFD and NDNd as well, and each producer by name. -v
prints every counter of every producer, --json everything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any, Final

from ndn_infer import catalog, ndn
from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.console.terminal import one_line
from ndn_infer.errors import NdnInferError, TrustError
from ndn_infer.functions.registry import ROLES
from ndn_infer.namespace import Instance, Machine, Role
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.transport.calls.direct import Direct, DirectAsk
from ndn_infer.transport.objects.datasets import Datasets
from ndn_infer.transport.trust.presence import STATUS, ProducerStatus, StatusQuery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace, config: Config) -> int:
    return asyncio.run(_main(options, config))


async def _main(options: argparse.Namespace, config: Config) -> int:
    async with await Node.join(config, ensure_keys(config, ROLES)) as node:
        document = await collect(node)
        aliases = catalog.aliases(config.catalog_dir)
    if options.json:
        print(json.dumps(document))
    else:
        print_status(document, aliases, verbose=options.verbose)
    return 0


async def collect(node: Node) -> dict[str, Any]:
    """Everything as one document. Producers that do not answer are listed with their error."""
    datasets = Datasets(node.endpoint)
    general = await datasets.general()
    faces, routes, store = await datasets.faces(), await datasets.routes(), await datasets.content_store()
    prefixes = sorted({route["prefix"] for route in routes})
    producers, offers = await asyncio.gather(
        asyncio.gather(*(_producer(node, prefix) for prefix in _producers(node, prefixes))), _offers(node)
    )
    return {
        "forwarder": {"uri": node.uri, **general},
        "content_store": store,
        "faces": faces,
        "routes": routes,
        "offers": offers,
        "producers": [producer for producer in producers if producer is not None],
    }


async def _offers(node: Node) -> dict[str, int]:
    """What a call from here could choose among: offers, those of this machine, their places, free ones, calls that
    wait."""
    here = Machine(node.config.network.site, node.config.network.node).to_name(node.net)
    async with Client(node) as client:
        await client.offers.look()
        entries = list(client.offers.entries())
    offers = [entry.offer for entry in entries]
    return {
        "known": len(entries),
        "own": sum(entry.identity.startswith(here) for entry in entries),
        "places": sum(offer.places for offer in offers),
        "free": sum(offer.free for offer in offers),
        "queue": sum(offer.queue for offer in offers),
    }


def _producers(node: Node, prefixes: list[str]) -> list[str]:
    """Whom to ask: every process that has a route of its own, and roles of which there is none (repos)."""
    names = {uri: ndn.from_uri(uri) for uri in prefixes}
    instances = {uri: ndn.prefix(name, -2) for uri, name in names.items() if Instance.parse(node.net, name)}
    roles = [uri for uri, name in names.items() if Role.parse(node.net, name) and name not in instances.values()]
    return sorted([*roles, *instances])


async def _producer(node: Node, prefix: str) -> dict[str, Any] | None:
    question = DirectAsk(ndn.from_uri(prefix), STATUS, StatusQuery(), attempts=3)
    try:
        async with asyncio.timeout(3.0):
            status = (await Direct(node.endpoint, node.validator).ask(question, ProducerStatus)).record
    except (NdnInferError, TimeoutError) as error:
        if Instance.parse(node.net, ndn.from_uri(prefix)) is not None:
            return None  # a process that only asks has a name of its own too
        return {"identity": prefix, "error": _why(error)}
    return {
        "identity": status.identity,
        "functions": list(status.functions),
        "subjects": list(status.models),
        "engines": {item.model: item.engine for item in status.engines},
        "pid": status.pid,
        "uptime_s": status.uptime_s,
        "queue": status.queue,
        "running": status.running,
        "counters": {counter.name: counter.value for counter in status.counters},
    }


def _why(error: Exception) -> str:
    if isinstance(error, TrustError):
        return f"it answers, but not with keys that this network trusts: {error}"
    return "no answer within 3 s" if isinstance(error, TimeoutError) else str(error)


MAIN_COUNTERS: Final = {
    "calls": "calls", "answers": "answers", "failed": "failed", "refused_busy": "rejected as too many",
    "streams_open": "open streams", "tokens_out": "tokens tokenized", "tokens_decoded": "tokens decoded",
    "texts_embedded": "texts embedded", "prefill_blocks_computed": "KV blocks computed",
    "kv_blocks_local": "KV blocks reused", "kv_blocks_fetched": "KV blocks fetched", "lookups": "look-ups",
    "passages_published": "passages",
}  # fmt: skip


def counters_in_words(counters: dict[str, float], *, verbose: bool) -> str:
    """The counters that say what a producer did, those above zero; with `verbose` all, by their own names."""
    if verbose:
        return ", ".join(f"{key} {value:,g}" for key, value in counters.items())
    shown = [f"{counters[key]:,.0f} {words}" for key, words in MAIN_COUNTERS.items() if counters.get(key)]
    return ", ".join(shown)


def offers_in_words(offers: dict[str, int]) -> str:
    """One line; `ndn-infer offers` has the table."""
    if not offers["known"]:
        return "offers: none"
    waiting = f", {offers['queue']} waiting" if offers["queue"] else ""
    return (
        f"offers: {offers['known']}, {offers['own']} of this machine; "
        f"{offers['free']} of {offers['places']} places free{waiting} ('ndn-infer offers' lists them)"
    )


def face_in_words(uri: str) -> str:
    """A face's remote URI; a Unix socket has none, only the number of a descriptor."""
    if uri.startswith("fd://"):
        return f"application on this machine (unix, {uri})"
    return "the forwarder itself" if uri.startswith("internal:") else uri


def print_status(document: dict[str, Any], aliases: dict[str, str], *, verbose: int = 0) -> None:
    """`aliases`: digest -> alias of models and corpora."""
    forwarder, store = document["forwarder"], document["content_store"]
    print(f"forwarder {forwarder['uri']} ({forwarder['version']})")
    print(
        f"  Interests {forwarder['in_interests']} in, {forwarder['out_interests']} out; "
        f"Data {forwarder['in_data']} in, {forwarder['out_data']} out; PIT {forwarder['pit_entries']}"
    )
    print(
        f"  Content Store {store['entries']} of {store['capacity']} packets, "
        f"{store['hits']} hits, {store['misses']} misses"
    )
    print("faces")
    for face in document["faces"]:
        print(f"  {face['face_id']:5} {face_in_words(face['uri']):46} "
              f"in {face['in_interests']:,} Interests {face['in_data']:,} Data, "
              f"out {face['out_interests']:,} Interests {face['out_data']:,} Data")  # fmt: skip
    print(f"routes: {len(document['routes'])} (--json lists them)")
    print(offers_in_words(document["offers"]))
    print("producers")
    for producer in document["producers"]:
        if "error" in producer:
            print(one_line(f"  {producer['identity']}  {producer['error']}"))
            continue
        print(
            f"  {producer['identity']}  pid {producer['pid']}  queue {producer['queue']}  running {producer['running']}"
        )
        subjects = ", ".join(aliases.get(text, text[:16]) for text in producer["subjects"])
        functions = ", ".join(dict.fromkeys(producer["functions"]))
        print(one_line(f"    {functions}{f' of {subjects}' if subjects else ''}"))
        for subject, engine in producer["engines"].items():
            print(one_line(f"    engine class of {aliases.get(subject, subject[:16])}: {engine}"))
        print(one_line(f"    {counters_in_words(producer['counters'], verbose=verbose > 0) or 'no calls yet'}"))
    if not document["producers"]:
        print("  none: 'ndn-infer produce' starts one")
