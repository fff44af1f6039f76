"""docs/vllm.md: its commands, cut out of the page and run in two namespaces with an NFD each, end in tokens that
the other host computed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ndn_infer.models.store import ModelFolder
from ndn_infer.testbed.namespaces import Namespaces, NoTestbed, check_machine
from ndn_infer.testbed.nfd import NfdSettings, write_configuration
from ndn_infer.testbed.topology_file import parse
from tests.daemons import stop
from tests.interop.peers import find, needs

pytestmark = [
    *needs("nfd", "nfdc"),
    pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="make test-vllm"),
    pytest.mark.timeout(560),
]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "vllm.md"
READY_S = 240.0


def recipe() -> list[tuple[str, str]]:
    """(host, command line) in order, as the page has them."""
    block = re.search(r"<!-- recipe: .*?-->\n```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block
    steps, host = [], ""
    for line in block[1].splitlines():
        heading = re.match(r"# on (n1|n2)", line)
        if heading:
            host = heading[1]
        else:
            steps.append((host, line.partition("        #")[0].strip()))
    return steps


@dataclass
class Hosts:
    """Namespaces n1 and n2, with a home and an NFD each."""

    folder: Path
    space: Namespaces
    model: Path
    ends: contextlib.ExitStack

    def environment(self, host: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "NDN_"))}
        programs = f"{self.folder / 'bin'}:{clean['PATH']}"
        return {
            **clean, "HOME": str(self.folder / host), "PATH": programs, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
            "NDN_CLIENT_TRANSPORT": f"unix://{self.folder / host / 'nfd.sock'}", "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }  # fmt: skip

    def in_host(self, host: str, *command: str) -> list[str]:
        return [*self.space.enter(host), *command]

    def begin(self, host: str, line: str) -> None:
        """A command that goes on."""
        log = self.ends.enter_context((self.folder / f"{host}-{len(list(self.folder.iterdir()))}.log").open("w"))
        process = subprocess.Popen(
            self.in_host(host, "bash", "-c", f"exec {line}"), cwd=self.folder / host, env=self.environment(host),
            stdout=log, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        self.ends.callback(stop, process)

    def run(self, host: str, line: str, *, check: bool = True) -> str:
        done = subprocess.run(
            self.in_host(host, "bash", "-c", line), cwd=self.folder / host, env=self.environment(host),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def wait_ready(self, host: str) -> None:
        end = time.monotonic() + READY_S
        while "smollm" not in self.run(host, "curl -s localhost:8000/v1/models", check=False).lower():
            assert time.monotonic() < end, "\n".join(log.read_text()[-3000:] for log in self.folder.glob("*.log"))
            time.sleep(1.0)


@contextlib.contextmanager
def hosts(folder: Path, model: Path) -> Iterator[Hosts]:
    try:
        check_machine()
    except NoTestbed as error:
        pytest.skip(str(error))
    space = Namespaces(parse("[nodes]\nn1: _\nn2: _\n[links]\nn1:n2\n"))
    with contextlib.ExitStack() as ends:
        ends.callback(space.remove)
        space.create()
        made = Hosts(folder, space, model, ends)
        (folder / "bin").mkdir()
        ndn_infer = folder / "bin" / "ndn-infer"
        ndn_infer.write_text(f'#!/bin/sh\nexec {sys.executable} -m ndn_infer "$@"\n')
        ndn_infer.chmod(0o755)
        (folder / "bin" / "vllm").symlink_to(Path(os.environ["VLLM_PYTHON"]).parent / "vllm")
        for host in ("n1", "n2"):
            home = folder / host
            home.mkdir()
            settings = write_configuration(home, home / "nfd.sock", NfdSettings(6363, 6363))
            made.begin(host, f"{find('nfd')} --config {settings}")
        yield made


def test_the_page_ends_in_tokens_of_the_other_host(smollm2: ModelFolder, tmp_path: Path) -> None:
    with hosts(tmp_path, smollm2.path) as world:
        said = []
        for host, line in recipe():
            other = {"n1": "n2", "n2": "n1"}[host]
            for bundle in tmp_path.glob(f"*/{host}.bundle"):  # carried there
                if bundle.parent != tmp_path / host:
                    shutil.move(bundle, tmp_path / host)
            address = next(uri for uri, name in world.space.neighbours(host).items() if name == other)
            here = line.replace(f"udp4://{other}", address)
            here = here.replace("serve MODEL", f"serve {smollm2.path} --served-model-name smollm --enforce-eager "
                                "--dtype bfloat16 --max-model-len 2048").replace("MODEL", "smollm")  # fmt: skip
            if line.startswith("curl"):
                world.wait_ready(host)
            if here.endswith("&"):
                world.begin(host, here.removesuffix("&").strip())
                continue
            for attempt in range(20):  # NFD has just been started
                try:
                    said.append(world.run(host, here))
                    break
                except AssertionError:
                    if "nfdc" not in here or attempt == 19:
                        raise
                    time.sleep(0.5)
        first, second = (json.loads(text) for text in said[-2:])
        details = [answer["usage"]["prompt_tokens_details"] for answer in (first, second)]
        assert not (details[0] or {}).get("cached_tokens")
        assert details[1]["cached_tokens"] >= 512 and first["choices"][0]["text"] == second["choices"][0]["text"]
        metrics = world.run("n2", "curl -s localhost:8000/metrics")
        assert re.search(r"^vllm:external_prefix_cache_hits_total\{.*\} [1-9]", metrics, re.MULTILINE)
