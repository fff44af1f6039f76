"""Run a scenario on a network of several nodes on this machine, and say from counters whether its claims hold.

ndn-infer testbed list                         every scenario, a line each
sudo ndn-infer testbed run three_nodes         a node of its own for consumer, decode and prefill; the same prompt twice
sudo ndn-infer testbed run mobile_consumer --forwarder nfd --json --out results
ndn-infer testbed run three_nodes --virtual    in one process and in virtual time: no root, a second, equal bytes
ndn-infer testbed plot results/mobile_consumer.json

Each node is a network namespace with a forwarder of its own, ours or NFD; needs root and iproute2, not Mini-NDN (for
Mini-NDN: testbed/minindn_run.py). `run` prints figures and the verdict, with --json the result as one JSON document;
exit status 0 only if every claim holds. Everything is removed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.testbed import plots, result
from ndn_infer.testbed import scenario as scenarios
from ndn_infer.testbed import topology_file as topologies
from ndn_infer.testbed.topology import Topology

SET_BY_TESTBED = ("network.", "paths.", "forwarder.unix_path", "forwarder.udp_bind")
DEFAULT = "three_nodes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "run", "plot"))
    parser.add_argument(
        "what", nargs="?", default=DEFAULT, metavar="SCENARIO | RESULT.json", help=f"run: default {DEFAULT}"
    )  # fmt: skip
    parser.add_argument("--topology", default="", metavar="NAME", help="another topology than its own: name or file")
    parser.add_argument("--forwarder", default="ndn-infer", choices=("ndn-infer", "nfd"), help="in every node")
    parser.add_argument("--virtual", action="store_true", help="in virtual time, in this process (docs/testbed.md)")
    parser.add_argument("--seed", type=int, default=0, help="of the scenario's own choices, of loss in virtual time")
    parser.add_argument(
        "--zero-trust", action="store_true", help="forwarders grant a producer routes below its own certificate only"
    )
    parser.add_argument("--strategy", default="", choices=("", "asf"), help="with --virtual: of all forwarders")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="with --virtual: so many, from --seed on")
    parser.add_argument("--timeout", type=float, default=0.0, metavar="SECONDS", help="of the scenario (its own limit)")
    parser.add_argument("--keep", action="store_true", help="leave it running after the verdict, until Ctrl-C")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the result and all logs, or the plot, there")
    parser.add_argument("--json", action="store_true", help="only the JSON document on standard output")


def run(options: argparse.Namespace, config: Config) -> int:
    if options.action == "list":
        return _list(as_json=options.json)
    if options.action == "plot":
        return _plot(Path(options.what), options.out)
    for text in options.settings:
        if text.startswith(SET_BY_TESTBED):
            raise UsageError(f"--set {text}: the testbed sets this for every node itself")
    found = scenarios.find(options.what)
    if options.seeds < 1 or (options.seeds > 1 and not options.virtual):
        raise UsageError("--seeds is 1 or more, and more than 1 with --virtual only")
    if options.strategy and not options.virtual:
        raise UsageError("--strategy goes with --virtual")
    kind = scenarios.VIRTUAL if options.virtual else scenarios.NAMESPACES
    if kind not in found.worlds:
        raise UsageError(f"{found.name} runs in {' and '.join(found.worlds)} only")
    topology = topologies.load(options.topology) if options.topology else found.load_topology()
    return _in_virtual_time(options, found, topology) if options.virtual else _here(options, config, found, topology)


def _in_virtual_time(options: argparse.Namespace, found: scenarios.Scenario, topology: Topology) -> int:
    # Only now: it loads half of the package.
    from ndn_infer.testbed.virtual.play import Play
    from ndn_infer.testbed.virtual.run import run_and_tell

    if options.forwarder != "ndn-infer" or options.keep:
        raise UsageError("in virtual time there is our own forwarder only, and nothing to keep")
    what = Play(
        found,
        options.seed,
        topology,
        tuple(options.settings),
        limit_s=options.timeout,
        zero_trust=options.zero_trust,
        strategy=options.strategy,
    )
    return run_and_tell(what, seeds=options.seeds, as_json=options.json, out=options.out)


def _here(options: argparse.Namespace, config: Config, found: scenarios.Scenario, topology: Topology) -> int:
    # Only now: namespaces are of no use to somebody who lists scenarios.
    from ndn_infer.testbed import runner
    from ndn_infer.testbed.network import Setup

    setup = Setup(config.cache_dir, (*found.settings, *options.settings), options.forwarder, options.zero_trust)
    plan = runner.Plan(
        found, topology, setup, seed=options.seed, timeout_s=options.timeout, as_json=options.json,
        keep=options.keep, out=options.out,
    )  # fmt: skip
    return asyncio.run(runner.run(plan))


def _plot(path: Path, out: Path | None) -> int:
    """The page beside the result, or in the folder `out`. Raises UsageError."""
    try:
        found = result.loads(path.read_text("utf-8"))
        page = (out or path.parent) / f"{path.stem}.svg"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(plots.render(found), "utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = "name a result that 'testbed run SCENARIO --out DIR' wrote"
        raise UsageError(f"cannot plot {path}: {error}", hint=hint) from error
    print(page)
    return 0


def _list(*, as_json: bool) -> int:
    found = scenarios.all_scenarios().values()
    if as_json:
        print(json.dumps([
            {"name": item.name, "about": item.about, "worlds": item.worlds, "topology": _topology(item)}
            for item in found
        ]))  # fmt: skip
        return 0
    for item in found:
        print(f"{item.name:26} {item.about}")
    return 0


def _topology(item: scenarios.Scenario) -> dict[str, object]:
    made = item.load_topology()
    return {
        "name": made.name, "nodes": {node.name: list(node.functions) for node in made.nodes},
        "links": [[link.first, link.second, link.delay_us] for link in made.links],
    }  # fmt: skip
