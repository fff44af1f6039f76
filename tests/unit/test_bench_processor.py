"""Processor time by process: what threads spend is told apart, and the costs of a token are all of it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ndn_infer.testbed.bench import processor
from ndn_infer.testbed.bench.processor import Spent

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="Linux tells")


def burn(seconds: float) -> None:
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass


def test_main_thread_and_others_are_told_apart() -> None:
    done, seen = threading.Event(), threading.Event()

    def work() -> None:
        burn(0.05)
        done.set()
        seen.wait()  # a thread that has ended is not counted

    before = processor.read({"here": os.getpid()})
    thread = threading.Thread(target=work)
    thread.start()
    done.wait()
    between = processor.since(before, processor.read({"here": os.getpid()}))["here"]
    burn(0.05)
    after = processor.since(before, processor.read({"here": os.getpid()}))["here"]
    seen.set()
    thread.join()
    assert between.others_s >= 0.045
    assert after.main_s - between.main_s >= 0.045
    assert after.wakes > 0  # it waited for the thread


def test_a_process_that_is_gone_has_spent_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert processor.read({"gone": ended.pid}) == {"gone": Spent()}


def test_costs_of_a_token_are_those_of_all_processes_but_the_engine() -> None:
    one = {"decode": Spent(0.2, 3.0, 10), "forwarder": Spent(0.1, 0.05, 4)}
    spent = processor.together([one, one])
    figures = processor.per_token(spent, 100, "decode")
    assert figures["cpu_ms_decode"] == pytest.approx(4.0)
    assert figures["cpu_ms_forwarder"] == pytest.approx(3.0)
    assert figures["cpu_ms_above_engine"] == pytest.approx(7.0)
    assert figures["cpu_ms_engine"] == pytest.approx(60.0)
    assert figures["wakes_decode"] == pytest.approx(0.2)


def test_children_are_known_by_what_they_were_told_to_be() -> None:
    code = "import sys; sys.stdin.read()"
    words = ["-m", "ndn_infer", "produce", "--functions", "prefill,decode"]
    child = subprocess.Popen([sys.executable, "-c", code, *words], stdin=subprocess.PIPE)
    try:
        assert processor.children(os.getpid())["decode"] == child.pid
    finally:
        child.communicate()


def test_benches_begin_processes_in_the_one_way_that_ends_them() -> None:
    """SIGTERM to a bench left its Redis and its forwarder behind; what is left to others ends before they go on."""
    folder, others = Path(processor.__file__).parent, set[str]()
    for path in folder.glob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
            said = ast.unparse(call.func)
            if said.rpartition(".")[2] in {"Popen", "Process", "create_subprocess_exec", "create_subprocess_shell"}:
                others.add(f"{path.name}: {said}")
    assert others == {"children.py: subprocess.Popen"}
