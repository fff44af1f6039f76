"""A conversation of real daemons and commands: begun on one node, gone on with by another member on a second, branched
on a third, each state in a repo; the answers are those of one process in public."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ndn_infer.models.store import ModelFolder
from tests.daemons import RunningNetwork, run_command, run_network
from tests.integration.test_prompt_log import process

pytestmark = [pytest.mark.model, pytest.mark.slow]

TURNS = ("Who looks after a lighthouse, and why?", "And when there is a storm at sea?", "Say that in other words.")
REPO = "/ndn-infer/local/home/n1/repo"
HOW = ("--no-embedded", "--quiet", "--max-tokens", "16")


def said(network: RunningNetwork, node: str, text: str, *arguments: str) -> str:
    """The answers, with what else a pipe shows."""
    environment = {**network.environment, "NDN_INFER_NETWORK_NODE": node}
    done = run_command("chat", *HOW, *arguments, environment=environment, text=text)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def state(shown: str) -> str:
    assert "on this machine alone" not in shown, shown
    name = re.findall(r"saved: (\S+)", shown)
    assert name, shown
    return str(name[-1])


def answer(shown: str) -> str:
    return "\n".join(line for line in shown.splitlines() if not line.startswith("  ")).strip()


def test_a_conversation_moves_between_nodes(
    smollm2: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("net")
    with run_network(home, model_cache, "--functions", "tokenize,prefill,decode") as network:
        assert network.run("domain", "create", "acme").returncode == 0
        ours = ("--domain", "acme", "--repo", REPO)
        with process(network, "repo", "repo", "serve"):
            first = said(network, "n1", TURNS[0] + "\n/save trip\n", *ours, "--continue", "trip")
            second = said(network, "n2", TURNS[1] + "\n/save trip\n", *ours, "--continue", state(first))
            assert "/n2/user/chat/" in state(second)
            third = said(
                network, "n3", f"{TURNS[2]}\n/save mine\n", *ours, "--continue", state(second), "--branch", "mine"
            )
            assert re.search(r"/n3/user/chat/[^/]+/mine/", state(third))
            held = json.loads(run_command("repo", "list", "--json", environment=network.environment).stdout)
            assert sum("/user/chat/" in json.dumps(one) for one in held) == 3, held
        alone = said(network, "n4", "\n".join(TURNS) + "\n")
        for shown in (first, second, third):
            assert answer(shown) and answer(shown) in answer(alone), (shown, alone)
