"""The README's recipe for several machines, cut out of the page and run: it ends in an answer."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ndn_infer.models.store import ModelFolder
from tests.daemons import environment_in, run_command, stop, wait_ready

pytestmark = pytest.mark.model

README = Path(__file__).resolve().parents[2] / "README.md"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def recipe() -> list[tuple[str, str]]:
    """(machine, command line) in order, as the page has them."""
    block = re.search(r"<!-- recipe: .*?-->\n```sh\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert block
    steps, machine = [], ""
    for line in block[1].splitlines():
        heading = re.match(r"# on (the operator|g1|d1)", line)
        if heading:
            machine = heading[1].split()[-1]
        else:
            steps.append((machine, line.partition("   #")[0].strip()))
    return steps


def test_the_recipe_ends_in_an_answer(smollm2: ModelFolder, model_cache: Path, tmp_path: Path) -> None:
    """Homes stand for machines, one port of this machine for the network between them."""
    port = free_port()
    outputs: list[str] = []
    with contextlib.ExitStack() as ends:
        for machine, line in recipe():
            home = tmp_path / machine
            home.mkdir(exist_ok=True)
            for bundle in tmp_path.glob(f"*/{machine}.bundle"):  # carried there
                if bundle.parent != home:
                    shutil.move(bundle, home)
            environment = environment_in(home, model_cache, TMPDIR=str(tmp_path))
            del environment["NDN_INFER_NETWORK_NET"]
            here = line.replace("0.0.0.0:6363", f"127.0.0.1:{port}").replace("g1:6363", f"127.0.0.1:{port}")
            words = shlex.split(here.removesuffix("&"))
            while "=" in words[0]:
                key, _, value = words.pop(0).partition("=")
                environment[key] = value
            assert words[0] == "ndn-infer"
            command = [sys.executable, "-m", "ndn_infer", *words[1:]]
            if line.endswith("&"):
                log = ends.enter_context((home / f"{words[-1].replace('/', '-')}.log").open("w"))
                process = subprocess.Popen(
                    command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=log, text=True,
                    start_new_session=True,
                )  # fmt: skip
                ends.callback(stop, process)
                wait_ready(process, [], Path(log.name))
                assert "callers will not find" not in Path(log.name).read_text()
                continue
            done = subprocess.run(
                command, cwd=home, env=environment, capture_output=True, text=True, timeout=240, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            outputs.append(done.stdout + done.stderr)
    assert "site gpu, node g1" in outputs[4] and "smollm2-135m-instruct" in outputs[4]
    assert "answer tokens" in outputs[-1] and "embedded" not in outputs[-1]


def test_a_producer_without_the_record_says_that_nobody_will_find_it(
    smollm2: ModelFolder, model_cache: Path, tmp_path: Path
) -> None:
    """It was silent, and callers ended in "no model called ... is offered"."""

    def run(home: str, *arguments: str) -> str:
        environment = {**environment_in(tmp_path / home, model_cache), "TMPDIR": str(tmp_path)}
        del environment["NDN_INFER_NETWORK_NET"]
        (tmp_path / home).mkdir(exist_ok=True)
        command = [sys.executable, "-m", "ndn_infer", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
        )
        return done.stdout + done.stderr

    run("operator", "keys", "init", "--net", "/lab")
    said = run("operator", "keys", "issue", "--site", "s", "--node", "n", "--out", "n.bundle")
    assert "no catalogue record" in said and "models publish" in said
    assert "none (the operator runs models publish" in run("node", "keys", "import", "n.bundle")
    said = run("node", "produce", "--functions", "tokenize", "--set", "network.transport=unix:///nowhere")
    assert "callers will not find smollm2-135m-instruct" in said and "ndn-infer models publish" in said


def test_two_homes_of_one_user_have_a_network_each(tmp_path: Path) -> None:
    """They shared one socket, and the second found the first one's network with another trust anchor."""
    sockets: dict[str, str] = {}
    with contextlib.ExitStack() as ends:
        for home in ("one", "two"):
            (tmp_path / home).mkdir()
            environment = {**environment_in(tmp_path / home, tmp_path), "TMPDIR": str(tmp_path)}
            del environment["NDN_INFER_NETWORK_NET"]
            log = ends.enter_context((tmp_path / home / "log").open("w"))
            process = subprocess.Popen(
                [sys.executable, "-m", "ndn_infer", "forwarder"], env=environment, stdout=subprocess.PIPE, stderr=log,
                text=True, start_new_session=True,
            )  # fmt: skip
            ends.callback(stop, process)
            lines: list[str] = []
            wait_ready(process, lines, Path(log.name))
            sockets[home] = lines[-1].rsplit(" ", 1)[-1]
            done = run_command("status", environment=environment)
            assert done.returncode == 0 and sockets[home] in done.stdout
    assert sockets["one"] != sockets["two"]
