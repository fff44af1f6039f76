"""`ndn-infer testbed run three_nodes`: three namespaces, a forwarder in each, and what their counters prove."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ndn_infer.models.store import ModelFolder
from ndn_infer.testbed import namespaces
from ndn_infer.testbed.scenario import NAMESPACES, all_scenarios
from tests.daemons import environment_in, run_command


def _why_not() -> str:
    try:
        namespaces.check_machine()
    except namespaces.NoTestbed as error:
        return str(error)
    return ""


needs_namespaces = [
    pytest.mark.root,
    pytest.mark.model,
    pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "namespaces work"),
]


def _namespaces_of(pid: int) -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if re.match(rf"{namespaces.PREFIX}-{pid}-", line)]


def _left_behind(environment: dict[str, str]) -> list[Path]:
    return list(Path(environment["TMPDIR"]).glob(f"{namespaces.PREFIX}-*"))


@pytest.fixture(scope="module")
def run(
    smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], dict[str, str]]:
    """One run for all tests of this module: its result document, and its environment. Nobody looks at offers in it: a
    look asks every producer, and what caches keep from the network could not be counted exactly."""
    directory = tmp_path_factory.mktemp("tb")
    environment = environment_in(directory, model_cache, TMPDIR=str(directory))
    done = run_command(
        "testbed", "run", "three_nodes", "--json", "--set=engine.threads=1", "--set=offers.choose=network",
        f"--out={directory / 'out'}",
        environment=environment, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    document: dict[str, Any] = json.loads(done.stdout)
    return document, environment


def _grown(question: dict[str, Any], node: str, neighbour: str, counter: str) -> int:
    after, before = (question[when]["nodes"][node]["faces"][neighbour][counter] for when in ("after", "before"))
    return int(after - before)


class TestThreeNodes:
    pytestmark = needs_namespaces

    def test_every_claim_holds(self, run: tuple[dict[str, Any], dict[str, str]]) -> None:
        document, _ = run
        assert document["holds"] is True
        assert [check["claim"] for check in document["claims"] if not check["holds"]] == []
        assert len(document["claims"]) == 9

    def test_kv_was_computed_at_compute_and_fetched_by_core(self, run: tuple[dict[str, Any], dict[str, str]]) -> None:
        first = run[0]["details"]["questions"][0]
        made = first["after"]["producers"]["compute/prefill"]
        used = first["after"]["producers"]["core/decode"]
        assert made["prefill_blocks_computed"] == used["kv_blocks_fetched"] > 0
        assert used["prefill_blocks_computed"] == 0
        # A KV block of SmolLM2 has 368,640 bytes: 47 segments. They crossed the link, and not towards the edge.
        segments = 47 * used["kv_blocks_fetched"]
        assert _grown(first, "core", "compute", "in_data") >= segments
        assert _grown(first, "compute", "core", "out_data") >= segments
        assert _grown(first, "edge", "core", "in_data") < segments

    def test_the_second_answer_came_from_caches(self, run: tuple[dict[str, Any], dict[str, str]]) -> None:
        first, second = run[0]["details"]["questions"]
        assert second["answer"]["text"] == first["answer"]["text"]
        assert second["after"]["producers"] == first["after"]["producers"]
        hits = sum(
            second["after"]["nodes"][node]["cs_hits"] - second["before"]["nodes"][node]["cs_hits"]
            for node in ("edge", "core")
        )
        assert hits >= len(first["answer"]["gaps_s"]) + 1  # each arrival is a segment of the stream
        assert _grown(second, "core", "compute", "out_interests") == 0
        assert _grown(second, "edge", "core", "in_data") < _grown(first, "edge", "core", "in_data")

    def test_the_document_says_who_answered_when_and_what_went_over_the_links(
        self, run: tuple[dict[str, Any], dict[str, str]]
    ) -> None:
        document, _ = run
        first, second, _ = document["asked"]
        assert (first["node"], first["at"], first["error"], len(first["ids"])) == ("edge", "core", "", 8)
        assert 0 < first["ttft_s"] <= first["total_s"] < second["began_s"] < document["total_s"]
        kv = next(link for link in document["links"] if link["second"] == "compute")
        assert kv["back"] > 2 * 368_640 > kv["forth"] > 0
        assert document["copies"]["compute"]["data_out"] >= 100
        assert (document["world"], document["forwarder"]) == ("namespaces", "ndn-infer")

    def test_the_result_and_the_logs_are_kept_where_the_user_said(
        self, run: tuple[dict[str, Any], dict[str, str]]
    ) -> None:
        document, environment = run
        out = Path(environment["HOME"]) / "out"
        assert json.loads((out / "three_nodes.json").read_text()) == document
        assert (out / "core-decode.log").is_file() and (out / "edge-asker.log").is_file()

    def test_nothing_is_left(self, run: tuple[dict[str, Any], dict[str, str]]) -> None:
        _, environment = run
        assert _left_behind(environment) == []


def _played(directory: Path, model_cache: Path, scenario: str, *options: str) -> dict[str, Any]:
    """The result document of a run that must hold; nothing of it is left."""
    environment = environment_in(directory, model_cache, TMPDIR=str(directory))
    done = run_command(
        "testbed", "run", scenario, "--json", "--set=engine.threads=1", *options, environment=environment, timeout=400
    )
    document: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    failed = [row for row in document.get("claims", []) if not row["holds"]]
    assert done.returncode == 0, (failed, done.stderr[-2000:])
    assert document["scenario"] == scenario and document["claims"]
    assert _left_behind(environment) == []
    return document


class TestScenarios:
    pytestmark = needs_namespaces

    def test_fifty_readers_take_one_copy(self, smollm2: ModelFolder, model_cache: Path, tmp_path: Path) -> None:
        document = _played(tmp_path, model_cache, "fifty_readers")
        assert document["figures"]["complete"] == 51
        egress = document["details"]["egress_bytes"]
        assert 0 < egress["producer"] < 1.05 * egress["edge"]
        core = document["copies"]["core"]
        assert core["data_out"] > 3 * core["data_in"]

    def test_a_consumer_moves(self, smollm2: ModelFolder, model_cache: Path, tmp_path: Path) -> None:
        document = _played(tmp_path, model_cache, "mobile_consumer")
        assert [what for _, what in document["events"]] == ["move phone from cell1 to cell2"]
        used = {(link["first"], link["second"]): link["forth"] for link in document["links"]}
        assert used["phone", "cell1"] > 0 and used["phone", "cell2"] > 0

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [(), ("--zero-trust",)], ids=["plain", "zero-trust"])
    @pytest.mark.parametrize("scenario", [name for name, item in all_scenarios().items() if NAMESPACES in item.worlds])
    @pytest.mark.timeout(500)
    def test_every_scenario_holds(
        self, scenario: str, options: tuple[str, ...], smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        assert _played(tmp_path, model_cache, scenario, *options)["zero_trust"] is bool(options)

    @pytest.mark.nfd
    @pytest.mark.skipif(shutil.which("nfd") is None, reason="not on PATH: nfd")
    def test_three_nodes_on_nfd(
        self, smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path: Path
    ) -> None:
        document = _played(tmp_path, model_cache, "three_nodes", "--forwarder=nfd")
        assert document["forwarder"] == "nfd"


class TestInterrupted:
    pytestmark = needs_namespaces

    @pytest.mark.parametrize("step", ["namespaces", "producers"])
    def test_ctrl_c_removes_everything(
        self, step: str, smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path: Path
    ) -> None:
        environment = environment_in(tmp_path, model_cache, TMPDIR=str(tmp_path))
        process = subprocess.Popen(
            [sys.executable, "-m", "ndn_infer", "testbed", "run", "three_nodes"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if step in line:
                break
        else:
            raise AssertionError("it ended before its namespaces were made")
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 130
        assert "interrupted" in said
        assert _namespaces_of(process.pid) == []
        assert _left_behind(environment) == []
        assert _daemons_in(tmp_path) == []

    def test_a_killed_run_is_cleaned_up_by_the_next(
        self, smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path: Path
    ) -> None:
        environment = environment_in(tmp_path, model_cache, TMPDIR=str(tmp_path))
        process = subprocess.Popen(
            [sys.executable, "-m", "ndn_infer", "testbed", "run", "three_nodes"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if "producers" in line:
                break
        process.kill()
        process.wait()
        process.stderr.close()
        assert len(_namespaces_of(process.pid)) == 3
        namespaces.remove_orphans()
        assert _namespaces_of(process.pid) == []
        deadline = time.monotonic() + 30  # daemons end when they see that their parent is gone
        while _daemons_in(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert _daemons_in(tmp_path) == []


def _daemons_in(directory: Path) -> list[int]:
    """Pids of living processes whose HOME lies in a directory."""
    marker, found = f"HOME={directory}".encode(), []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if any(item.startswith(marker) for item in variables):
                found.append(int(entry.name))
    return found


class TestWithoutMeans:
    """What a user sees who cannot run it; needs neither root nor a model."""

    def test_list(self, tmp_path: Path) -> None:
        done = run_command("testbed", "list", "--json", environment=environment_in(tmp_path, tmp_path))
        assert done.returncode == 0, done.stderr
        found = {item["name"]: item for item in json.loads(done.stdout)}
        assert found["three_nodes"]["topology"]["nodes"]["core"] == ["tokenize", "decode"]

    def test_without_ip(self, tmp_path: Path) -> None:
        done = run_command("testbed", "run", environment={**environment_in(tmp_path, tmp_path), "PATH": str(tmp_path)})
        assert done.returncode == 2
        assert "needs the 'ip' command" in done.stderr and "iproute2" in done.stderr
        assert "Traceback" not in done.stderr

    def test_without_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr(shutil, "which", lambda _: "/usr/sbin/ip")
        with pytest.raises(namespaces.NoTestbed) as caught:
            namespaces.check_machine()
        assert "root" in str(caught.value) and "sudo" in caught.value.hint
        assert caught.value.exit_code == 2

    def test_nfd_must_be_there_and_has_no_policy(self, tmp_path: Path) -> None:
        environment = {**environment_in(tmp_path, tmp_path), "PATH": str(tmp_path)}
        (tmp_path / "ip").write_text("#!/bin/sh\n")
        (tmp_path / "ip").chmod(0o755)
        done = run_command("testbed", "run", "three_nodes", "--forwarder=nfd", environment=environment)
        assert done.returncode == 2 and ("there is no nfd on PATH" in done.stderr or "takes root" in done.stderr)
        assert "Traceback" not in done.stderr

    def test_settings_of_the_testbed_itself_are_refused(self, tmp_path: Path) -> None:
        done = run_command(
            "testbed", "run", "--set", "network.node=x", environment=environment_in(tmp_path, tmp_path)
        )  # fmt: skip
        assert done.returncode == 2 and "sets this for every node" in done.stderr

    @pytest.mark.parametrize("arguments", [("nowhere",), ("three_nodes", "--topology=nowhere")])
    def test_unknown_scenario_or_topology(self, arguments: tuple[str, ...], tmp_path: Path) -> None:
        done = run_command("testbed", "run", *arguments, environment=environment_in(tmp_path, tmp_path))
        assert done.returncode == 2 and "three_nodes" in done.stderr
