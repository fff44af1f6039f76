"""The Mini-NDN script: what it chooses and refuses, its signals; and (marked) a run in Mini-NDN itself."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ndn_infer.errors import UsageError
from ndn_infer.testbed import minindn_run, scenario
from ndn_infer.testbed.topology_file import FOLDER
from tests.unit.minindn.stand_in import ROOT


def test_a_scenario_and_its_topology_are_chosen_before_mini_ndn_reads_anything(tmp_path: Path) -> None:
    chosen, topology, path = minindn_run.choose("cut_link", "", "static")
    assert (chosen.name, topology.name, Path(path)) == ("cut_link", "two_decoders", FOLDER / "two_decoders.conf")
    with pytest.raises(UsageError, match="thousand_nodes does not run in Mini-NDN"):
        minindn_run.choose("thousand_nodes", "", "nlsr")
    file = tmp_path / "x.conf"
    file.write_text("[nodes]\na: function=decode\nb\n[links]\na:b delay=1ms")
    with pytest.raises(UsageError, match="x.conf:2: unknown node parameter 'function'; did you mean 'functions'"):
        minindn_run.choose("three_nodes", str(file), "static")
    file.write_text("[nodes]\na: functions=decode\nb: _\n[links]\na:b delay=1ms")
    with pytest.raises(UsageError, match="no node has functions=prefill,tokenize"):
        minindn_run.choose("three_nodes", str(file), "static")


@pytest.mark.parametrize("name", ["mobile_consumer", "mobile_producer", "way_round"])
def test_what_needs_new_routes_is_refused_with_static_ones_before_anything_is_built(name: str) -> None:
    assert minindn_run.choose(name, "", "nlsr")[0].name == name
    with pytest.raises(UsageError, match=f"{name} does not run in Mini-NDN with static routes") as caught:
        minindn_run.choose(name, "", "static")
    assert "--routing nlsr" in caught.value.hint


def test_every_scenario_that_moves_a_node_says_so() -> None:
    for name, item in scenario.all_scenarios().items():
        if ".move(" in inspect.getsource(item.play):
            assert scenario.MININDN not in item.worlds, name


def test_the_script_needs_nothing_but_the_standard_library() -> None:
    """As Mini-NDN's interpreter has it: no site-packages."""
    code = "from ndn_infer.testbed import minindn_run; print(minindn_run.choose('fifty_readers', '', 'static')[0].name)"
    command = [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "fifty_readers\n", done.stderr[-500:]


STAND_IN = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
from types import ModuleType, SimpleNamespace

def module(name, **content):
    made = ModuleType(name)
    made.__dict__.update(content)
    sys.modules[name] = made

def here(what):
    print(what, flush=True)

class Minindn:
    def __init__(self, **_):
        self.net = {}
    parseArgs = staticmethod(lambda ours: ours.add_argument("topoFile", nargs="?") and ours)
    def start(self):
        if WHERE == "nodes":
            here("HERE")
            time.sleep(60)
    def stop(self):
        here("nodes are gone")

class Network:
    def __init__(self, ndn, topology, *_):
        self.topology = topology
    async def start(self):
        await in_thread(self.step)
        time.sleep(60)
    def step(self):
        here("HERE")
        time.sleep(0.3)
        here("the step is done")
    async def stop(self):
        here("processes are gone")

module("minindn.minindn", Minindn=Minindn)
module("minindn.util", MiniNDNCLI=None)
module("mininet.log", setLogLevel=lambda level: None)
module("ndn_infer.testbed.minindn_network", MiniNdnNetwork=Network, MiniNdnSetup=lambda *_: None)
from ndn_infer.testbed import minindn_run
from ndn_infer.testbed.process_network import in_thread
sys.argv = ["minindn_run", "three_nodes", "--link=types:SimpleNamespace"]
sys.exit(minindn_run.main())
"""


@pytest.mark.parametrize("where", ["nodes", "network"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(where: str, number: signal.Signals) -> None:
    """In the middle of Mini-NDN's own start, and of ours, whose step is over before what it made is removed."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); WHERE = {where!r}\n{STAND_IN}"
    process = subprocess.Popen([sys.executable, "-S", "-E", "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "HERE\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    gone = ["the step is done", "processes are gone"] * (where == "network") + ["nodes are gone"]
    assert (process.returncode, output.splitlines()) == (128 + number, gone)


# ---------------------------------------------------------------- Mini-NDN itself


def _mininet_python() -> str:
    """An interpreter (or a wrapper that takes the same arguments) under which Mini-NDN can be imported, or ""."""
    python = os.environ.get("MININDN_PYTHON", "python3")
    if os.geteuid() != 0 or shutil.which(python) is None:
        return ""
    probe = [python, "-c", "import minindn.apps.nfd, minindn.helpers.ndn_routing_helper"]
    done = subprocess.run(probe, capture_output=True, timeout=60, check=False)
    return python if done.returncode == 0 else ""


@pytest.mark.minindn
@pytest.mark.root
@pytest.mark.model
@pytest.mark.parametrize("routing", ["static", "nlsr"])
def test_three_nodes_in_mini_ndn(
    request: pytest.FixtureRequest, model_cache: Path, tmp_path: Path, routing: str
) -> None:  # fmt: skip
    """The script as a user runs it: NFD in every node, the verdict holds."""
    python = _mininet_python()
    if not python:
        pytest.skip("Mini-NDN cannot be imported (set MININDN_PYTHON), or this is not root")
    request.getfixturevalue("smollm2")
    request.getfixturevalue("minilm")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "NDN_"))}
    command = [python, str(ROOT / "testbed" / "minindn_run.py"), "three_nodes", f"--routing={routing}"]
    done = subprocess.run(
        [*command, f"--python={sys.executable}", f"--work-dir={tmp_path}"],
        env={**kept, "NDN_INFER_PATHS_CACHE_DIR": str(model_cache)},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    document = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert document["holds"] and document["world"] == "Mini-NDN" and document["forwarder"] == "nfd"
    assert len(document["asked"]) == 2 and len(document["claims"]) == 8
