"""Bad input: one clear line, a next step, an exit status that means something, never a traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ndn_infer
from ndn_infer.__main__ import main as command
from ndn_infer.models.store import ModelFolder
from tests.daemons import environment_in, processes_of, run_command

Result = subprocess.CompletedProcess[str]


def assert_clear(done: Result, status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    first = next(line for line in done.stderr.splitlines() if line.startswith("ndn-infer"))
    for word in words:
        assert word in done.stderr, f"{word!r} not in {done.stderr!r}"
    assert len(first) < 300


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return environment_in(tmp_path, tmp_path / "cache", NDN_INFER_PATHS_RUNTIME_DIR=str(tmp_path / "r"))


def test_empty_prompt(environment: dict[str, str]) -> None:
    assert_clear(run_command("ask", "  ", environment=environment), 2, "empty")
    assert_clear(run_command("ask", "-", environment=environment, text=""), 2, "empty")


def test_ctrl_c_while_modules_are_imported_is_one_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupts(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setattr(ndn_infer, "cli", Interrupts("ndn_infer.cli"), raising=False)
    assert command() == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_unknown_model(environment: dict[str, str]) -> None:
    assert_clear(run_command("ask", "--model", "no-such-model", "hello", environment=environment), 5, "no-such-model")


def test_unknown_function(environment: dict[str, str]) -> None:
    done = run_command("produce", "--functions", "telepathy", environment=environment)
    assert_clear(done, 2, "telepathy", "tokenize")


def test_unknown_configuration_key(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[fetch]\nlifetme_ms = 3\n")
    assert_clear(run_command("config", "--config", str(file), environment=environment), 2, "lifetme_ms", "lifetime_ms")
    assert_clear(run_command("config", "--set", "nowhere.x=1", environment=environment), 2, "nowhere")
    wrong = {**environment, "NDN_INFER_FETCH_LIFETIME_MS": "soon"}
    assert_clear(run_command("config", environment=wrong), 2, "lifetime_ms", "soon")
    file.write_text("[fetch\n")
    assert_clear(run_command("config", "--config", str(file), environment=environment), 2, "TOML")
    assert_clear(run_command("config", "--config", str(tmp_path / "none"), environment=environment), 2, "none")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--temperature", "-1"),
        ("--top-p", "1.1"),
        ("--max-tokens", "-1"),
        ("--top-k", "-2"),
        ("--seed", "-1"),
        ("--stop", ""),
    ],
    ids=lambda arguments: arguments[0],
)
def test_values_outside_their_range(environment: dict[str, str], arguments: tuple[str, str]) -> None:
    assert_clear(run_command("ask", "hello", *arguments, environment=environment), 2)


def test_no_forwarder_and_none_allowed(environment: dict[str, str]) -> None:
    assert run_command("keys", "init", environment=environment).returncode == 0
    nowhere = {**environment, "NDN_CLIENT_TRANSPORT": "unix:///nowhere/nfd.sock"}
    assert_clear(run_command("ask", "--no-embedded", "hello", environment=nowhere), 3, "unix:///nowhere/nfd.sock")
    assert_clear(run_command("status", environment=nowhere), 3, "forwarder")
    strange = {**environment, "NDN_CLIENT_TRANSPORT": "carrier-pigeon://x"}
    assert_clear(run_command("status", environment=strange), 2, "carrier-pigeon")


def test_no_keys(environment: dict[str, str]) -> None:
    done = run_command("ask", "--no-embedded", "hello", environment=environment)
    assert_clear(done, 4, "keys")


def test_socket_taken(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "f.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
        holder.bind(str(path))
        holder.listen()
        assert_clear(run_command("forwarder", "--unix", str(path), environment=environment), 3, str(path))


def test_port_taken(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = run_command(
            "forwarder", "--unix", str(tmp_path / "g.sock"), "--tcp", f"127.0.0.1:{port}", environment=environment
        )
        assert_clear(done, 3, str(port))
        assert not (tmp_path / "g.sock").exists()


def test_bad_name(environment: dict[str, str]) -> None:
    assert_clear(run_command("names", "no-slash", environment=environment), 2, "no-slash")
    assert_clear(run_command("names", "/a/params-sha256=xyz", environment=environment), 2, "params-sha256")


def test_json_errors_are_json(environment: dict[str, str]) -> None:
    done = run_command("ask", "--json", " ", environment=environment)
    assert json.loads(done.stdout)["error"]["kind"] == "PromptError"


@pytest.mark.model
def test_damaged_model_cache_is_repaired_and_never_used(
    smollm2: ModelFolder, model_cache: Path, tmp_path: Path
) -> None:
    """One byte of the weights is flipped: the digest no longer fits, the model is made again."""
    import shutil

    cache = tmp_path / "cache"
    shutil.copytree(model_cache / "models", cache / "models")
    environment = environment_in(tmp_path, cache)
    weights = cache / "models" / smollm2.digest / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    done = run_command("models", "prepare", "smollm2-135m-instruct", "--json", environment=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == smollm2.digest
    assert weights.read_bytes() != bytes(content)


@pytest.mark.model
def test_models_show(smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path: Path) -> None:
    """The packaged weights were four-bit ones once: rounding them to four bits again costs next to nothing."""
    environment = environment_in(tmp_path, model_cache)
    done = run_command("models", "show", "smollm2-135m-instruct", "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["digest"], told["kv_block_bytes"]) == (smollm2.digest, 368_640)
    assert 0.002 < told["rounding"]["int4"]["mean"] < 0.003 < told["rounding"]["int8"]["mean"] < 0.01
    assert_clear(run_command("models", "show", "all-minilm-l6-v2", environment=environment), 2, "BertModel")


@pytest.mark.model
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_disk_full_while_preparing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        environment = environment_in(tmp_path, small)
        done = run_command("models", "prepare", "smollm2-135m-instruct", environment=environment, timeout=300)
        assert_clear(done, 7, "space")
        left = sum(path.stat().st_size for path in small.rglob("*") if path.is_file())
        assert left < 1 << 20, "a half-made model was left behind"
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.model
def test_interrupted_ask_leaves_nothing(smollm2: ModelFolder, model_cache: Path, tmp_path: Path) -> None:
    """Ctrl-C while an embedded network answers: status 130, no process, no socket."""
    import signal
    import time

    runtime = tmp_path / "r"
    environment = environment_in(tmp_path, model_cache, NDN_INFER_PATHS_RUNTIME_DIR=str(runtime))
    process = subprocess.Popen(
        [sys.executable, "-m", "ndn_infer", "ask", "--max-tokens", "2000", "Count from 1 to 1000."],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.read(1)  # it answers
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.communicate()
    deadline = time.monotonic() + 10
    while processes_of(environment) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(environment) == []
    assert list(runtime.rglob("*")) == []


@pytest.mark.model
def test_killed_ask_leaves_nothing(smollm2: ModelFolder, model_cache: Path, tmp_path: Path) -> None:
    """Even SIGKILL: the children notice that their parent is gone."""
    import time

    environment = environment_in(tmp_path, model_cache, NDN_INFER_PATHS_RUNTIME_DIR=str(tmp_path / "r"))
    process = subprocess.Popen(
        [sys.executable, "-m", "ndn_infer", "ask", "--max-tokens", "2000", "Count from 1 to 1000."],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.read(1)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while processes_of(environment) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(environment) == []
