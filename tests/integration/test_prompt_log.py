"""A prompt log of real processes: gateway, log, witness, commands; what an erased user asked is in no file of the site;
and a conversation that the gateway began goes on from a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from openai import InternalServerError, OpenAI

from ndn_infer.models.store import ModelFolder
from tests.daemons import RunningNetwork, gateway, run_network, stop, wait_ready
from tests.integration.test_gateway import MODEL

pytestmark = [pytest.mark.model, pytest.mark.slow]

LOG = "/ndn-infer/local/home/n1/log"
ALICE = "alice's own words: the parrot's name is Archibald Featherstone"
BOB = "bob asks how tall a lighthouse is"


@contextmanager
def process(network: RunningNetwork, name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    log = network.home / f"{name}.log"
    with log.open("a") as errors:
        running = subprocess.Popen(
            [sys.executable, "-m", "ndn_infer", *arguments], env=network.environment, stdout=subprocess.PIPE,
            stderr=errors, text=True,
        )  # fmt: skip
    try:
        wait_ready(running, [], log)
        yield running
    finally:
        stop(running)


def done(network: RunningNetwork, *arguments: str, status: int = 0) -> str:
    ran = network.run(*arguments)
    assert ran.returncode == status, (arguments, ran.stdout, ran.stderr)
    return ran.stdout


def said(url: str, text: str, user: str, **more: object) -> str:
    client = OpenAI(base_url=url, api_key="-", max_retries=0)
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": text}], max_tokens=8, user=user, extra_body=more
    )
    return answer.choices[0].message.content or ""


def test_recorded_shown_proven_exported_erased(
    smollm2: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("net")
    policy = ("--set", f"recording.policies=*={LOG}+gateway+refuse", "--set", "recording.wait_s=3")
    with ExitStack() as ends:
        network = ends.enter_context(run_network(home, model_cache, "--functions", "tokenize,prefill,decode"))
        url, _ = ends.enter_context(gateway(network, *policy))
        with pytest.raises(InternalServerError, match="recorded"):  # no log runs
            said(url, ALICE, "alice")
        log = ExitStack()
        log.enter_context(process(network, "log", "log", "serve"))
        answer = said(url, ALICE, "alice")
        said(url, BOB, "bob")
        shown: list[dict[str, object]] = []
        while len(shown) < 4:  # records of answers follow
            shown = json.loads(done(network, "log", "show", "--json"))
        assert [one["kind"] for one in shown].count("answered") == 2
        asked = [one for one in shown if one["user"] == "alice" and one["kind"] == "asked"]
        assert asked and ALICE in json.dumps(asked[0])
        assert any(one["text"] == answer for one in shown if one["user"] == "alice")

        assert "consistent" in done(network, "log", "verify", "--all")
        done(network, "log", "witness", LOG, "--once", "--path", str(home / "witness"))
        done(network, "log", "receipt", "1", "--out", str(home / "r.cose"))
        judge = [sys.executable, "-m", "scitt_cose.cli", "--receipt", str(home / "r.cose"), "--receipt-log-pubkey",
                 str(home / "r.cose.pem"), "--leaf-entry-hex", (home / "r.cose.leaf").read_text()]  # fmt: skip
        assert subprocess.run(judge, capture_output=True).returncode == 0
        lines = done(network, "log", "export", "--user", "alice").splitlines()
        assert len(lines) == 2 and all(json.loads(line)["receipt"] for line in lines)

        done(network, "log", "erase", "--user", "alice", "--as", "operator")
        shown = json.loads(done(network, "log", "show", "--json"))
        assert [one["kind"] for one in shown].count("unreadable") == 2 and shown[-1]["kind"] == "erased"
        done(network, "log", "export", "--user", "alice", status=2)
        assert "consistent" in done(network, "log", "verify", "--all")
        done(network, "log", "witness", LOG, "--once", "--path", str(home / "witness"))
        site = [path for path in home.rglob("*") if path.is_file() and ("/log" in str(path) or "spool" in str(path))]
        assert site and not [path for path in site if b"Archibald" in path.read_bytes()]

        said(url, "Who keeps a lighthouse?", "bob", conversation="trip")
        log.close()
        with pytest.raises(InternalServerError, match="recorded"):
            said(url, BOB, "bob")
        name = "/ndn-infer/local/home/n1/user/chat/public/trip"
        told = done(network, "ask", "--continue", name, "--branch", "mine", "--max-tokens", "8", "And at night?")
        assert told.strip()


@pytest.mark.parametrize("writer", ["decode", "producers"])
def test_producers_record_what_no_gateway_sees(
    smollm2: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory, writer: str
) -> None:
    """Asked from a terminal: the decode producer records the ids of prompt and answer, before and after it works; with
    `producers` so does everybody who is given the text."""
    home = tmp_path_factory.mktemp("net")
    policy = ("--set", f"recording.policies=*={LOG}+{writer}+refuse", "--set", "recording.wait_s=3")
    ask = ("ask", "--max-tokens", "8", "--json", "--seed", "3", "--temperature", "0.5", ALICE)
    with ExitStack() as ends:
        functions = ("--functions", "tokenize,prefill,decode")
        network = ends.enter_context(run_network(home, model_cache, *functions, *policy))
        refused = network.run(*ask)
        assert refused.returncode != 0 and "recorded" in refused.stdout, refused.stdout
        ends.enter_context(process(network, "log", "log", "serve"))
        answer = json.loads(done(network, *ask))
        shown: list[dict[str, object]] = []
        while not any(one["kind"] == "answered" and one["function"] == "generate" for one in shown):
            shown = json.loads(done(network, "log", "show", "--json"))
        said = {(one["function"], one["kind"]): one for one in shown}
        assert said["generate", "asked"]["ids"] == answer["prompt_token_ids"]
        assert said["generate", "answered"]["ids"] == answer["token_ids"]
        assert said["generate", "answered"]["name"] == answer["stream"]
        assert said["generate", "answered"]["finish"] == answer["finish"]
        assert {one["user"] for one in shown} == {"public"}
        told = said.get(("tokenize", "asked"))
        assert (told is not None and ALICE in str(told["text"])) == (writer == "producers")
        assert "consistent" in done(network, "log", "verify", "--all")
