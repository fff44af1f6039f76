"""A scenario in Mini-NDN: NFD in every node, static routes or NLSR, our producers as Mini-NDN applications.

    sudo python3 testbed/minindn_run.py [SCENARIO] [TOPOLOGY FILE] [--routing static|nlsr] [--python VENV/bin/python]

Same pages, same topology files, same claims as `ndn-infer testbed run`, but nodes, links and forwarders are Mini-NDN's,
and routes those of its NdnRoutingHelper or of NLSR. Prints figures and the verdict, ends with the result as one JSON
line; exit status 0 only if every claim holds. Mini-NDN's interpreter needs nothing of ndn-infer: daemons and consumers
run under --python.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent if (HERE.parent / "ndn_infer").is_dir() else HERE.parent.parent

if __name__ == "__main__":  # run as a script: our package is beside us, not installed for this interpreter
    sys.path[0] = str(ROOT)

from ndn_infer.errors import NdnInferError, UsageError  # noqa: E402
from ndn_infer.testbed import result, scenario, topology_file  # noqa: E402
from ndn_infer.testbed.process_network import in_any_case  # noqa: E402
from ndn_infer.testbed.process_world import ProcessWorld, play  # noqa: E402
from ndn_infer.testbed.topology import Topology  # noqa: E402

BUILD_S: Final = 600.0
FAILED: Final = 1
ENDED_BY: Final = (signal.SIGTERM, signal.SIGHUP)
"""End us as Ctrl-C does, with everything removed: exit status 128 and the signal's number."""


def parser() -> argparse.ArgumentParser:
    """Our options; Mini-NDN adds its own (topology file, --work-dir, --result-dir)."""
    parser = argparse.ArgumentParser(add_help=False)
    venv = ROOT / ".venv" / "bin" / "python"
    default = str(venv) if venv.exists() else sys.executable
    parser.add_argument("scenario", nargs="?", default="three_nodes", help="one of 'ndn-infer testbed list'")
    parser.add_argument("--routing", default="static", choices=("static", "nlsr"), help="static: NdnRoutingHelper's")
    parser.add_argument("--strategy", default="", choices=("", "asf", "best-route"), help="below our network's name")
    parser.add_argument("--nlsr-security", action="store_true", help="NLSR signs and verifies what it says")
    parser.add_argument("--python", default=default, help=f"interpreter that has ndn-infer (default: {default})")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="SECTION.KEY=VALUE")
    parser.add_argument("--seed", type=int, default=0, help="of the scenario's own choices")
    parser.add_argument("--timeout", type=float, default=0.0, metavar="SECONDS", help="of the scenario (its own limit)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the result there")
    parser.add_argument("--link", default="", metavar="MODULE:CLASS", help="another Mininet link class than TCLink")
    parser.add_argument("--cli", action="store_true", help="open Mini-NDN's command line after the verdict")
    return parser


def choose(name: str, path: str, routing: str) -> tuple[scenario.Scenario, Topology, str]:
    """The scenario, its topology and the file that Mini-NDN reads; `path` "" is the scenario's own.

    The file is read as `ndn-infer testbed run` does: Mini-NDN's own reader passes on whatever is misspelt. Raises
    UsageError.
    """
    found = scenario.find(name, bare=True)
    if scenario.MININDN_NLSR in found.worlds and routing != "nlsr":
        raise UsageError(f"{name} does not run in Mini-NDN with {routing} routes", hint="--routing nlsr")
    if not {scenario.MININDN, scenario.MININDN_NLSR} & {*found.worlds} or not isinstance(found.topology, str):
        raise UsageError(f"{name} does not run in Mini-NDN", hint=f"it runs in: {', '.join(found.worlds)}")
    path = path or str(topology_file.available()[found.topology])
    topology = topology_file.load(path)
    topology.roles()
    return found, topology, path


def link_class(named: str, topology: Topology) -> tuple[dict[str, Any], str]:
    """What Mini-NDN is told of links, and a note: without netem in the kernel links are processes of ours."""
    from ndn_infer.testbed.namespaces import has_netem

    if named:
        module, _, name = named.partition(":")
        return {"link": getattr(importlib.import_module(module), name)}, f"links are {named}"
    probe = "ndni-netem-probe"
    subprocess.run(["ip", "netns", "add", probe], check=True)
    try:
        if has_netem(probe):
            return {}, ""
    finally:
        subprocess.run(["ip", "netns", "del", probe], check=False)
    from ndn_infer.testbed.minindn_link import delayed_links

    return {"link": delayed_links(topology)}, "this kernel has no netem: processes of ours delay the links"


def say(text: str, began: float) -> None:
    print(f"  {time.monotonic() - began:5.1f} s  {text}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class Ending:
    """The first signal of ENDED_BY ends what runs, further ones do nothing. One that is ignored (nohup) stays so.

    In the loop it cancels `run`, so that steps in threads are over before what they made is removed; elsewhere it
    raises SystemExit.
    """

    status: int = FAILED
    _loop: asyncio.AbstractEventLoop | None = None
    _task: asyncio.Task[Any] | None = None

    def watch(self) -> None:
        for number in ENDED_BY:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._end)

    async def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        """What `step` returns. Raises CancelledError on a signal, when it is over."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            return await step
        finally:
            self._loop = self._task = None

    def _end(self, number: int, _: Any) -> None:
        ignore_signals()
        self.status = 128 + number
        if self._loop is None or self._task is None:
            raise SystemExit(self.status)
        self._loop.call_soon_threadsafe(self._task.cancel)


def ignore_signals() -> None:
    """While everything is removed."""
    for number in (*ENDED_BY, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


async def run(ndn: Any, chosen: scenario.Scenario, topology: Topology, options: argparse.Namespace) -> dict[str, Any]:
    """Play it on a started Mini-NDN; the result document. Raises an NdnInferError, TimeoutError."""
    from ndn_infer.testbed.minindn_network import MiniNdnNetwork, MiniNdnSetup

    tell = partial(say, began=time.monotonic())
    settings = [*chosen.settings, *options.settings]
    setup = MiniNdnSetup(
        options.python, ROOT, options.routing, options.strategy, settings, options.nlsr_security
    )  # fmt: skip
    network = MiniNdnNetwork(ndn, topology, setup, tell)
    world = ProcessWorld(network, seed=options.seed, kind=scenario.MININDN)
    try:
        async with asyncio.timeout(BUILD_S):
            await network.start()
        world.note(f"routing: {options.routing}; strategy: {options.strategy or 'best-route'}")
        tell(f"{chosen.name}: {chosen.about}")
        found = await play(chosen, world, options.timeout, partial(scenario.Run, "", "nfd", False))
        print(*world.record.tables, sep="\n")
        return found
    finally:
        await in_any_case(network.stop())


def main() -> int:
    from minindn.minindn import Minindn
    from minindn.util import MiniNDNCLI
    from mininet.log import setLogLevel

    setLogLevel("info")
    ours = parser()
    theirs = Minindn.parseArgs(ours)
    options = theirs.parse_args()
    given = "" if options.topoFile == theirs.get_default("topoFile") else options.topoFile
    try:
        chosen, topology, path = choose(options.scenario, given, options.routing)
    except NdnInferError as error:
        raise SystemExit(f"minindn_run: {error} ({error.hint})") from None
    more, note = link_class(options.link, topology)
    if note:
        print(f"  note: {note}", file=sys.stderr)
    ending = Ending()
    ending.watch()
    ndn = Minindn(parser=ours, topoFile=path, controller=None, **more)
    try:
        ndn.start()
        status = judged(ending, run(ndn, chosen, topology, options), options.out)
        if options.cli and status <= FAILED:
            MiniNDNCLI(ndn.net)
        return status
    finally:
        ignore_signals()
        ndn.stop()


def judged(ending: Ending, playing: Coroutine[Any, Any, dict[str, Any]], folder: Path | None) -> int:
    """Play, print and write what came of it; the exit status."""
    try:
        found = asyncio.run(ending.run(playing))
        show(found, folder)
        return 0 if found["holds"] else FAILED
    except NdnInferError as error:
        print(f"minindn_run: {error} ({error.hint})", file=sys.stderr)
        return FAILED
    except TimeoutError:
        print("minindn_run: it was not done in time (--timeout gives it more)", file=sys.stderr)
        return FAILED
    except asyncio.CancelledError:
        return ending.status


def show(found: dict[str, Any], folder: Path | None) -> None:
    """Print the result document, and write it into `folder`."""
    print(*result.report(found), result.dumps(found), sep="\n", flush=True)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{found['scenario']}.json").write_text(result.dumps(found) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
