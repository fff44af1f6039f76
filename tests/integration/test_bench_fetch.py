"""`ndn-infer bench fetch`, tiny: real processes, a table, a JSON line; wrong bytes end it. Its link, its clients."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ndn_infer import cli
from ndn_infer.testbed.bench import fetch, fetch_client, fetch_peers
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.fetch_child import Content, WrongBytes, make_content, ram_folder
from ndn_infer.testbed.delay_link import LOOPBACK, Shaper

TINY = ("bench", "fetch", "--megabytes", "0.5", "--runs", "1", "--no-peers")
KEYS = {"verified_over_ndnget", "verified_over_python_ndn", "verified_over_http", "verified_over_redis"}
WAIT_S = 20.0


def test_ours_alone_prints_a_table_and_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(TINY) == 0
    lines = capsys.readouterr().out.splitlines()
    document = json.loads(lines[-1])
    assert lines[0] == "figures"
    figures, ratios = document["figures"], document["ratios"]
    assert figures["object_mb"] == 0.5
    for cell, from_store in (("cs_ours", 63), ("producer_ours", 0)):
        assert figures[f"{cell}_mb_s"] >= figures[f"{cell}_median_mb_s"] > 0
        details = figures["details"][cell]
        assert (details["segments"], details["segments_from_store"]) == (63, from_store)
        assert {"retransmitted", "marks", "timeouts", "window", "round_trip_ms"} <= set(details)
    assert set(ratios) >= KEYS | {key.replace("verified_", "producer_") for key in KEYS}
    assert not any(ratios.values())  # no peer, no ratio


def test_other_bytes_than_published_end_the_bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoiled(path: Path, size: int) -> Content:
        content = make_content(path, size)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        return content

    monkeypatch.setattr(fetch, "make_content", spoiled)
    assert cli.main(TINY) != 0
    said = capsys.readouterr()
    assert "other bytes" in said.err and "{" not in said.out


def test_ratios_take_the_best_setting_of_a_peer() -> None:
    speeds = {"cs_ours": 300.0, "ndnget_fixed32_cs_nfd": 100.0, "ndnget_fixed64_cs_nfd": 150.0, "http_verified": 600.0}
    found = fetch.ratios(speeds)
    assert (found["verified_over_ndnget"], found["verified_over_http"]) == (2.0, 0.5)
    assert found["producer_over_ndnget"] is None and found["verified_over_redis"] is None


# ---------------------------------------------------------------- the emulated link


@contextmanager
def link_to(port: int, *options: str) -> Iterator[socket.socket]:
    """A socket that sends into a new link to `port`."""
    command = [sys.executable, "-m", "ndn_infer.testbed.delay_link", f"--udp={port}", *options]
    with background(command) as process, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:2] == ["READY", "link"]
        near.connect((LOOPBACK, int(words[2])))
        near.settimeout(WAIT_S)
        yield near


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_bench_that_is_ended_leaves_no_process_behind(how: signal.Signals, tmp_path: Path) -> None:
    """However it ends, below nohup too; its forwarder, which is ready and has a load, does not end by itself."""
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "ndn_infer", "bench", "forwarder", "--runs", "99"]
    bench = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=partial(signal.signal, how, signal.SIG_DFL) if how is not signal.SIGKILL else None,
    )  # fmt: skip
    try:
        wait_until(lambda: any(map(_is_forwarder, _children(bench.pid))) and len(_children(bench.pid)) > 1)
        children = _children(bench.pid)
        bench.send_signal(how)
        bench.wait(WAIT_S)
        wait_until(lambda: not any(map(_lives, children)))
    finally:
        bench.kill()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_forwarder(pid: int) -> bool:
    """Not where it has ended since it was listed."""
    try:
        return b"cs_capacity_packets" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _lives(pid: int) -> bool:
    """Not where it has ended and nobody has asked for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_udp_link_loses_what_its_seed_says_and_carries_answers_back() -> None:
    sent = [b"%03d" % number for number in range(200)]
    shaper = Shaper(loss=0.3, seed=5)
    for datagram in sent:
        shaper.put(datagram, 0.0)
    expected = shaper.due(0.0)
    assert 100 < len(expected) < 180
    back = Shaper(loss=0.3, seed=6)
    back.put(b"first", 0.0)
    back.put(b"second", 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind((LOOPBACK, 0))
        far.settimeout(WAIT_S)
        with link_to(far.getsockname()[1], "--loss=30", "--seed=5", "--delay-us=1000") as near:
            for datagram in sent:
                near.send(datagram)
            arrived = [far.recvfrom(100) for _ in expected]
            assert [datagram for datagram, _ in arrived] == expected
            for answer in (b"first", b"second"):
                far.sendto(answer, arrived[0][1])
            answers = back.due(0.0)
            assert answers and [near.recv(100) for _ in answers] == answers


# ---------------------------------------------------------------- peers, where they are


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_http_client_brings_the_bytes_and_notices_others() -> None:
    with ram_folder() as folder:
        content = make_content(Path(folder) / "object.bin", 300_001)
        with fetch_peers.nginx(Path(folder), content) as port:
            for verify in (True, False):
                assert fetch_peers.http_get(port, content, verify=verify)["mb_s"] > 0
                with pytest.raises(WrongBytes):
                    fetch_peers.http_get(port, replace(content, sha256="00" * 32), verify=verify)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_redis_clients_bring_the_bytes() -> None:
    with ram_folder() as folder:
        content = make_content(Path(folder) / "object.bin", 2_300_001)  # several MGETs, the last value short
        with fetch_peers.redis_server(Path(folder), content) as addresses:
            for address in addresses:
                for get in (fetch_client.redis_get, fetch_client.redis_mget):
                    for verify in (True, False):
                        assert get(address, content.size, verify=verify)["sha256"] == content.sha256


@pytest.mark.parametrize("program", ["ndnget", "nfd", "ndnd", "nginx", "redis-server"])
def test_an_absent_peer_is_named_with_its_package(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert any(program in line and "package" in line for line in fetch_peers.absences())
