"""Run a network of several nodes on this machine and prove from counters that it works; or list the topologies.

ndn-infer testbed list
sudo ndn-infer testbed run three_nodes       a node of its own for consumer, decode and prefill; the same prompt twice

Each node is a network namespace with a forwarder of its own; needs root and iproute2, not Mini-NDN (for Mini-NDN and
NFD: testbed/minindn_run.py). Prints a table and the verdict, with --json everything that was counted as one JSON
document; exit status 0 only if the verdict holds. Everything is removed.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.testbed import topology_file as topologies
from ndn_infer.testbed.evidence import DEFAULT_EXPECT, DEFAULT_PROMPT

SET_BY_TESTBED = ("network.", "paths.", "forwarder.unix_path", "forwarder.udp_bind")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "run"))
    parser.add_argument("topology", nargs="?", default="three_nodes", help="name of a topology, or a file")
    parser.add_argument("--prompt", default=DEFAULT_PROMPT, help="what the consumer asks, twice")
    parser.add_argument("--expect", help="part of the right answer (default: that of the default prompt)")
    parser.add_argument("--timeout", type=float, default=240.0, metavar="SECONDS", help="give up after (default: 240)")
    parser.add_argument("--keep", action="store_true", help="leave it running after the verdict, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="only the JSON document on standard output")


def run(options: argparse.Namespace, config: Config) -> int:
    if options.action == "list":
        return _list(as_json=options.json)
    # Only now: namespaces are of no use to somebody who lists topologies.
    from ndn_infer.testbed import runner

    for text in options.settings:
        if text.startswith(SET_BY_TESTBED):
            raise UsageError(f"--set {text}: the testbed sets this for every node itself")
    expect = options.expect if options.expect is not None else DEFAULT_EXPECT
    if options.expect is None and options.prompt != DEFAULT_PROMPT:
        expect = ""
    plan = runner.Plan(
        topologies.load(options.topology), config.cache_dir, options.prompt, expect, options.timeout,
        options.json, options.keep, tuple(options.settings),
    )  # fmt: skip
    return asyncio.run(runner.run(plan))


def _list(*, as_json: bool) -> int:
    found = [topologies.load(name) for name in topologies.available()]
    if as_json:
        print(json.dumps([
            {"name": item.name, "nodes": {node.name: list(node.functions) for node in item.nodes},
             "links": [[link.first, link.second, link.delay_us] for link in item.links]}
            for item in found
        ]))  # fmt: skip
        return 0
    for item in found:
        nodes = ", ".join(f"{node.name} ({', '.join(node.functions) or 'asks'})" for node in item.nodes)
        print(f"{item.name}: {nodes}")
        for link in item.links:
            print(f"  {link.first} - {link.second}: {link.delay_us / 1000:g} ms, {link.bandwidth_mbit:g} Mbit/s")
    return 0
