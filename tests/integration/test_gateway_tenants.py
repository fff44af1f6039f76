"""Several gateways of one network, tenants by API key, and what clients do not notice: nodes that die.

One network with two decode nodes; each test has its own gateways, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from ndn_infer.models.store import ModelFolder
from tests.daemons import RunningNetwork, run_network, stop, wait_ready
from tests.integration.test_gateway import MODEL, gateway

pytestmark = pytest.mark.model

ACME, OTHER, PUBLIC = "key-of-tenant-acme", "key-of-tenant-other", "key-of-nobody"
LONG = "Here are some facts. " + " ".join(f"Number {count} comes after {count - 1}." for count in range(1, 24))


@pytest.fixture(scope="module")
def network(
    smollm2: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNetwork]:
    directory = tmp_path_factory.mktemp("net")
    with run_network(directory, model_cache, "--functions", "tokenize,prefill,decode") as running:
        for name in ("acme", "other"):
            done = running.run("domain", "create", name)
            assert done.returncode == 0, done.stderr
        yield running


@pytest.fixture(scope="module")
def second_decode(network: RunningNetwork) -> Iterator[subprocess.Popen[str]]:
    """On a node of its own."""
    log = (network.home / "second.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "ndn_infer", "produce", "--functions", "decode", "--set", "network.node=n2"],
        env=network.environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_ready(process, [], network.home / "second.log")
        yield process
    finally:
        stop(process)
        log.close()


def said(stream: Any) -> tuple[str, Any]:
    """The text of a stream, and its usage."""
    text, usage = "", None
    for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    return text, usage


def cached(usage: Any) -> int:
    return int(usage.prompt_tokens_details.cached_tokens)


def test_a_tenant_never_gets_what_another_computed(network: RunningNetwork, tmp_path: Path) -> None:
    """Equal prompts, one after the other: each tenant's is computed once, found by itself, and by nobody else."""
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text(f"{PUBLIC}\n{ACME} domain=acme\n{OTHER} domain=other requests=1\n")
    ask: Any = {"model": MODEL, "messages": [{"role": "user", "content": LONG}], "max_tokens": 4}
    with gateway(network, "--api-key-file", str(keys)) as (url, _):
        clients = {key: OpenAI(base_url=url, api_key=key, max_retries=0) for key in (PUBLIC, ACME, OTHER)}
        texts = set()
        for key, client in clients.items():
            answer = client.chat.completions.create(**ask)
            texts.add(answer.choices[0].message.content)
            assert answer.usage is not None and cached(answer.usage) == 0, f"{key} was given what another asked"
        assert len(texts) == 1, "the domain changes no token"
        for client in clients.values():
            again = client.chat.completions.create(**{**ask, "max_tokens": 5})
            assert again.usage is not None and cached(again.usage) > 0, "its own is found again"
