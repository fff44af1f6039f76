"""docs/vllm.md: its commands, cut out of the page and run in two namespaces with an NFD each, end in tokens that
the other host computed; then the network between them is cut in the middle of loads, and heals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
LOADS = 4
CUT_AFTER = 12 << 20
"""Bytes on the link: four blocks, of the fifty and more that are being loaded."""


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

    def answer(self, host: str, prompt: str) -> dict[str, Any]:
        """The likeliest four tokens."""
        body = json.dumps({"model": "smollm", "prompt": prompt, "max_tokens": 4, "temperature": 0})
        line = f"curl -s -m 90 localhost:8000/v1/completions -H 'Content-Type: application/json' -d '{body}'"
        answer: dict[str, Any] = json.loads(self.run(host, line))
        return answer

    def metric(self, host: str, name: str) -> float:
        """0 for one that is not there yet."""
        found = re.search(rf"^vllm:{name}_total\{{.*\}} (\S+)", self.run(host, "curl -s localhost:8000/metrics"), re.M)
        return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def world(smollm2: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("v")
    try:
        check_machine()
    except NoTestbed as error:
        pytest.skip(str(error))
    space = Namespaces(parse("[nodes]\nn1: _\nn2: _\n[links]\nn1:n2\n"))
    with contextlib.ExitStack() as ends:
        ends.callback(space.remove)
        space.create()
        made = Hosts(folder, space, smollm2.path, ends)
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


def follow(world: Hosts) -> list[dict[str, Any]]:
    """Do what the page says; what the two requests at its end were answered."""
    said = []
    for host, line in recipe():
        other = {"n1": "n2", "n2": "n1"}[host]
        for bundle in world.folder.glob(f"*/{host}.bundle"):  # carried there
            if bundle.parent != world.folder / host:
                shutil.move(bundle, world.folder / host)
        address = next(uri for uri, name in world.space.neighbours(host).items() if name == other)
        here = line.replace(f"udp4://{other}", address)
        here = here.replace("serve MODEL", f"serve {world.model} --served-model-name smollm --enforce-eager "
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
    return [json.loads(text) for text in said[-2:]]


def cached(answer: dict[str, Any]) -> int:
    return int((answer["usage"]["prompt_tokens_details"] or {}).get("cached_tokens") or 0)


def texts(answers: list[dict[str, Any]]) -> list[str]:
    return [answer["choices"][0]["text"] for answer in answers]


def story(number: int) -> str:
    """About 1,800 tokens, and there is no doubt about how it goes on."""
    return f"Story {number}. " + f"A lighthouse of {number} stones stands on a rock. " * 150


def test_the_page_ends_in_tokens_of_the_other_host(world: Hosts) -> None:
    first, second = follow(world)
    assert not cached(first)
    assert cached(second) >= 512 and texts([first]) == texts([second])
    assert world.metric("n2", "external_prefix_cache_hits") > 0


def test_a_partition_in_the_middle_of_loads_is_computed_and_told(world: Hosts) -> None:
    """No reset, no error: packets are lost. Nothing was held of these prompts but by n1."""
    if not list(world.folder.glob("*/n2.bundle")):
        follow(world)
    stories = [story(number) for number in range(LOADS)]
    wanted = [world.answer("n1", text) for text in stories]
    assert not any(map(cached, wanted))
    wait_until(lambda: published(world) >= 12 * LOADS)
    link = world.space.topology.links[0]
    at_first = world.space.sent(link).forth
    before = {name: world.metric("n2", f"named_kv_{name}") for name in GAP}
    with ThreadPoolExecutor(LOADS) as pool:
        answers = [pool.submit(world.answer, "n2", text) for text in stories]
        wait_until(lambda: world.space.sent(link).forth - at_first >= CUT_AFTER)
        world.space.switch(link, up=False)
        assert texts([answer.result(120) for answer in answers]) == texts(wanted)
    gap = {name: world.metric("n2", f"named_kv_{name}") - before[name] for name in GAP}
    assert gap["kv_blocks_failed"] > 0 and gap["requests_recomputed"] > 0, gap
    world.space.switch(link, up=True)
    for number in range(LOADS, LOADS + 8):  # whoever was silent is not asked for a while
        later = world.answer("n1", story(number))
        wait_until(lambda more=number: published(world) >= 12 * (more + 1))
        healed = world.answer("n2", story(number))
        assert texts([healed]) == texts([later])
        if cached(healed) > 1024:
            return
    pytest.fail("nothing is shared any more")


def published(world: Hosts) -> float:
    """By n1. Counters move with steps: a short prompt makes one."""
    world.answer("n1", "Hello")
    return world.metric("n1", "named_kv_kv_blocks_published")


GAP = ("kv_blocks_loaded", "kv_blocks_failed", "requests_recomputed")


def wait_until(true: Callable[[], bool], within_s: float = 90.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
