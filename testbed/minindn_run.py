"""The three-node testbed in Mini-NDN: NFD in every node, our producers and consumer as Mini-NDN applications.

    sudo python3 testbed/minindn_run.py [topology file] [--python /path/to/venv/bin/python] [--work-dir DIR]

Same topology file, same question twice, same evidence as `ndn-infer testbed run`, but every packet goes through NFD and
the routes are made by Mini-NDN's NdnRoutingHelper. Prints the table and the verdict, ends with one JSON line; exit
status 0 only if the verdict holds. Mini-NDN's interpreter needs nothing of ndn-infer: the daemons run under --python.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent if (HERE.parent / "ndn_infer").is_dir() else HERE.parent.parent

if __name__ == "__main__":  # run as a script: our package is beside us, not installed for this interpreter
    sys.path[0] = str(ROOT)

from ndn_infer.errors import NdnInferError  # noqa: E402
from ndn_infer.testbed import evidence, nfdc_text, topology_file  # noqa: E402

NET: Final = "/ndn-infer/testbed"
STATUS_KEPT_S: Final = 0.6
DATASET_KEPT_S: Final = 1.1
"""A little longer than NFD's Content Store keeps a management dataset: what is read later is of today."""

PROVISION_TIMEOUT_S: Final = 300.0


def parser() -> argparse.ArgumentParser:
    """Our options; Mini-NDN adds its own (topology file, --work-dir, --result-dir)."""
    parser = argparse.ArgumentParser(add_help=False)
    venv = ROOT / ".venv" / "bin" / "python"
    default = str(venv) if venv.exists() else sys.executable
    parser.add_argument("--python", default=default, help=f"interpreter that has ndn-infer (default: {default})")
    parser.add_argument("--prompt", default=evidence.DEFAULT_PROMPT)
    parser.add_argument("--expect", default=evidence.DEFAULT_EXPECT, help="part of the right answer; empty: any")
    parser.add_argument("--link", default="", metavar="MODULE:CLASS", help="another Mininet link class than TCLink")
    parser.add_argument("--cli", action="store_true", help="open Mini-NDN's command line after the verdict")
    return parser


def check_topology(path: str) -> None:
    """Read the file as `ndn-infer testbed run` does: Mini-NDN's own reader passes on whatever is misspelt. Raises
    SystemExit with words."""
    try:
        topology_file.load(path)
    except NdnInferError as error:
        raise SystemExit(f"minindn_run: {error} ({error.hint})") from None


def placement(hosts: Sequence[Any]) -> tuple[dict[str, list[str]], str]:
    """Producers by node, and the consumer: the first node without any. Raises SystemExit with words."""
    functions = {host.name: _functions(host) for host in hosts}
    consumers = [name for name, names in functions.items() if not names]
    if not consumers:
        raise SystemExit("minindn_run: no node is left to ask: every node has functions=")
    missing = {"tokenize", "prefill", "decode"} - {_role(name) for names in functions.values() for name in names}
    if missing:
        raise SystemExit(f"minindn_run: no node has functions={','.join(sorted(missing))}")
    return functions, consumers[0]


def _role(function: str) -> str:
    """stage:0-9 is of the role stage."""
    return function.partition(":")[0]


def _functions(host: Any) -> list[str]:
    text = host.params["params"].get("functions", "")
    return [part for part in text.split(",") if part]


def provision(python: str, directory: str, functions: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Keys and catalogue below each node's home; returns each node's environment. Raises SystemExit with words."""
    nodes = [f"--node={name}:{','.join([*map(_role, names), 'user'])}" for name, names in functions.items()]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [python, "-m", "ndn_infer.testbed.provision", directory, *nodes]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=PROVISION_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"minindn_run: keys could not be made; does {python} have ndn-infer? (--python)")
    settings: dict[str, dict[str, str]] = json.loads(done.stdout)
    return settings


class MiniNdnTestbed:
    """A started Mini-NDN with our applications. `producers` by "node/function"."""

    def __init__(self, ndn: Any, python: str) -> None:
        from ndn_infer.testbed.minindn_apps import InferConsumer, InferProducer

        self._ndn = ndn
        self._hosts = list(ndn.net.hosts)
        functions, self.consumer_node = placement(self._hosts)
        self.roles = {_role(function): name for name, names in functions.items() for function in names}
        settings = provision(python, ndn.workDir, functions)
        self.producers: dict[str, Any] = {}
        for name, names in functions.items():
            for function in names:
                app = InferProducer(ndn.net[name], python=python, functions=function, settings=settings[name])
                self.producers[f"{name}/{function}"] = app
        self.consumer = InferConsumer(
            ndn.net[self.consumer_node], python=python, settings=settings[self.consumer_node]
        )  # fmt: skip
        self._addresses: dict[str, dict[str, str]] = {}

    def start(self) -> None:
        """NFD everywhere, producers, then routes for what they registered."""
        from minindn.apps.app_manager import AppManager
        from minindn.apps.nfd import Nfd
        from minindn.helpers.ndn_routing_helper import NdnRoutingHelper

        AppManager(self._ndn, self._hosts, Nfd)
        self._ndn.cleanups.append(self.stop)
        for app in self.producers.values():
            app.start()
        for app in self.producers.values():
            app.wait_ready()
        routing = NdnRoutingHelper(self._ndn.net, "udp", "link-state")
        for host in self._hosts:
            offers = nfdc_text.registered(host.cmd("nfdc route list"), NET)
            routing.addOrigin([host], offers)
            neighbours = NdnRoutingHelper.getNeighborIP(host)
            self._addresses[host.name] = {address: name for name, address in neighbours.items()}
        routing.calculateRoutes()

    def stop(self) -> None:
        for app in self.producers.values():
            app.stop()

    def question(self, prompt: str) -> evidence.AskEvidence:
        """Forwarders are read next to the question, so that reading producers' status is outside of what it counts."""
        before = evidence.Snapshot(producers=self._producers(), nodes=self._nodes())
        answer = self.consumer.ask(prompt)
        nodes = self._nodes()
        return evidence.AskEvidence(answer, before, evidence.Snapshot(nodes, self._producers()))

    def _nodes(self) -> dict[str, evidence.NodeCounters]:
        time.sleep(DATASET_KEPT_S)
        return {
            host.name: nfdc_text.node_counters(
                host.cmd("nfdc cs info"), host.cmd("nfdc face list"), self._addresses[host.name]
            )
            for host in self._hosts
        }

    def _producers(self) -> dict[str, dict[str, float]]:
        time.sleep(STATUS_KEPT_S)  # caches keep a status record for half a second
        found: dict[str, dict[str, float]] = {}
        for key, app in self.producers.items():
            if key not in found:
                found.update(app.counters())
        return found


def main() -> int:
    from minindn.minindn import Minindn
    from minindn.util import MiniNDNCLI
    from mininet.log import setLogLevel

    setLogLevel("info")
    ours = parser()
    theirs = Minindn.parseArgs(ours)
    options = theirs.parse_args()
    default = options.topoFile == theirs.get_default("topoFile")
    more: dict[str, Any] = {}
    if options.link:
        module, _, name = options.link.partition(":")
        more["link"] = getattr(importlib.import_module(module), name)
    topology = str(HERE / "topologies" / "three_nodes.conf") if default else options.topoFile
    check_topology(topology)
    ndn = Minindn(parser=ours, topoFile=topology, controller=None, **more)
    try:
        ndn.start()
        testbed = MiniNdnTestbed(ndn, options.python)
        testbed.start()
        first, second = testbed.question(options.prompt), testbed.question(options.prompt)
        checks = evidence.judge(first, second, expect=options.expect, roles=testbed.roles)
        document = evidence.document(Path(ndn.topoFile).stem, "Mini-NDN with NFD", (first, second), checks)
        print(evidence.table(first, second), evidence.verdict(checks), json.dumps(document), sep="\n", flush=True)
        if options.cli:
            MiniNDNCLI(ndn.net)
        return 0 if document["holds"] else 1
    finally:
        ndn.stop()


if __name__ == "__main__":
    sys.exit(main())
