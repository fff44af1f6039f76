"""Several gateways of one network: tenants by API key, streams that are taken up elsewhere, and what clients do not
notice: KV by name, a producer that dies. One network, a second decode node, two gateways with the same keys."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from openai import OpenAI

from ndn_infer.models.store import ModelFolder
from tests.daemons import RunningNetwork, gateway, run_network, stop, wait_ready
from tests.integration.test_gateway import EMBEDDER, MODEL

pytestmark = pytest.mark.model

ACME, OTHER, PUBLIC = "key-of-tenant-acme", "key-of-tenant-other", "key-of-nobody"
LONG = "Here are some facts. " + " ".join(f"Number {count} comes after {count - 1}." for count in range(1, 24))
STORY: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me about the sea."}], "max_tokens": 40}


@pytest.fixture(scope="module")
def network(
    smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNetwork]:
    directory = tmp_path_factory.mktemp("net")
    with run_network(directory, model_cache, "--functions", "tokenize,prefill,decode,embed") as running:
        for name in ("acme", "other"):
            done = running.run("domain", "create", name)
            assert done.returncode == 0, done.stderr
        yield running


@pytest.fixture(scope="module")
def gateways(network: RunningNetwork) -> Iterator[tuple[str, str]]:
    """Of two nodes, with the same keys."""
    keys = network.home / "api-keys"
    keys.touch(0o600)
    keys.write_text(f"{PUBLIC}\n{ACME} domain=acme\n{OTHER} domain=other requests=4\n")
    with ExitStack() as ends:
        first, _ = ends.enter_context(gateway(network, "--api-key-file", str(keys)))
        second, _ = ends.enter_context(gateway(network, "--api-key-file", str(keys), "--set", "network.node=n2"))
        yield first, second


def client_of(url: str, key: str = PUBLIC) -> OpenAI:
    return OpenAI(base_url=url, api_key=key, max_retries=0)


def cached(usage: Any) -> int:
    return int(usage.prompt_tokens_details.cached_tokens)


def test_a_tenant_never_gets_what_another_computed(gateways: tuple[str, str]) -> None:
    """Equal prompts, one after the other: each tenant's is computed once, found by itself, and by nobody else."""
    ask: Any = {"model": MODEL, "messages": [{"role": "user", "content": LONG}], "max_tokens": 4}
    clients = {key: client_of(gateways[0], key) for key in (PUBLIC, ACME, OTHER)}
    texts = set()
    for key, client in clients.items():
        answer = client.chat.completions.create(**ask)
        texts.add(answer.choices[0].message.content)
        assert answer.usage is not None and cached(answer.usage) == 0, f"{key} was given what another asked"
    assert len(texts) == 1, "the domain changes no token"
    for client in clients.values():
        again = client.chat.completions.create(**{**ask, "max_tokens": 5})
        assert again.usage is not None and cached(again.usage) > 0, "its own is found again"


def test_a_tenants_texts_are_embedded_for_it_alone(gateways: tuple[str, str], network: RunningNetwork) -> None:
    """The same vectors in each domain."""
    before, vectors = network.counters("embed").get("texts_embedded", 0), []
    for key in (PUBLIC, ACME, OTHER, PUBLIC, ACME):
        done = client_of(gateways[0], key).embeddings.create(model=EMBEDDER, input=["a lighthouse"])
        vectors.append(done.data[0].embedding)
    assert all(vector == vectors[0] for vector in vectors)
    told = network.counters("embed")["texts_embedded"]
    assert told == before + 1, "found again, and nobody is told what tenants ask"


async def events(
    url: str, key: str, body: Any, last: str = "", count: int = 10**6
) -> tuple[int, list[tuple[str, Any]]]:
    """Status, and (id, document) of the first so many events of a stream, after which the client leaves."""
    headers = {"X-Api-Key": key, "Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
    found: list[tuple[str, Any]] = []
    async with (
        ClientSession() as session,
        session.post(f"{url}/chat/completions", json=body, headers=headers) as answer,
    ):
        data, name = "", ""
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            data = line[6:] if line.startswith("data: ") else data
            name = line[4:] if line.startswith("id: ") else name
            if not line and data:
                found.append((name, data if data == "[DONE]" else json.loads(data)))
                data = ""
            if len(found) == count:
                break
        return answer.status, found


def text_of(found: list[tuple[str, Any]]) -> str:
    return "".join(one["choices"][0]["delta"].get("content") or "" for _, one in found if one != "[DONE]")


@pytest.mark.parametrize("key", [PUBLIC, ACME])
async def test_a_stream_goes_on_at_another_gateway(gateways: tuple[str, str], key: str) -> None:
    body = {**STORY, "stream": True, "seed": 5, "temperature": 0.7}
    _, first = await events(gateways[0], key, body, count=9)
    status, rest = await events(gateways[1], key, body, last=first[-1][0])
    assert status == 200 and rest[-1][1] == "[DONE]"
    assert {one["id"] for _, one in [*first, *rest[:-1]]} == {first[0][1]["id"]}, "one answer"
    whole = client_of(gateways[0], key).chat.completions.create(**{**STORY, "seed": 5, "temperature": 0.7})
    assert text_of(first) + text_of(rest) == whole.choices[0].message.content
    status, _ = await events(gateways[1], OTHER, body, last=first[-1][0])
    assert status == 400, "an id is of one request in one domain"


@pytest.mark.parametrize("stream", [False])
async def test_who_leaves_while_the_prompt_is_computed_or_read_ends_it(
    network: RunningNetwork, gateways: tuple[str, str], stream: bool
) -> None:
    """And who reads the same answer goes on with it."""
    story = {**STORY, "messages": [{"role": "user", "content": f"A long tale, {stream}."}], "max_tokens": 30}
    longer = {**story, "messages": [{"role": "user", "content": f"A longer one, {stream}. {LONG}"}], "max_tokens": 3000}
    before = network.counters("decode")["tokens_decoded"]
    headers = {"X-Api-Key": PUBLIC}
    async with ClientSession(headers=headers) as session:
        url = f"{gateways[0]}/chat/completions"
        staying = asyncio.ensure_future(events(gateways[1], PUBLIC, {**story, "stream": True, "ignore_eos": True}))
        leaving = [
            asyncio.ensure_future(session.post(url, json={**body, "stream": stream, "ignore_eos": True}))
            for body in (story, longer)
        ]
        await asyncio.sleep(0.5)
        for one in leaving:
            one.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        for one in leaving:
            if one.done() and not one.cancelled() and one.exception() is None:
                one.result().close()
        _, found = await staying
    assert found[-2][1]["choices"][0]["finish_reason"] == "length" and text_of(found)
    counts = [-1.0, before]
    while counts[-1] != counts[-2]:
        await asyncio.sleep(1.0)
        counts.append(network.counters("decode")["tokens_decoded"])
    assert counts[-1] - before < 1000, "of 3000 that nobody reads"


def test_a_second_turn_elsewhere_finds_kv_by_name_and_outlives_its_producer(
    network: RunningNetwork, gateways: tuple[str, str]
) -> None:
    """The second turn is asked at another gateway, while a second decode node is there. Whichever node answers it is
    killed in the middle: the client reads on, the same tokens as undisturbed."""
    first_turn = [{"role": "user", "content": f"{LONG} What comes after 7?"}]
    answer = client_of(gateways[0]).chat.completions.create(model=MODEL, messages=first_turn, max_tokens=24)  # type: ignore[call-overload]
    said = answer.choices[0].message.content
    before = network.counters("prefill")["prefill_blocks_computed"]
    ask: Any = {
        "model": MODEL, "max_tokens": 120, "extra_body": {"ignore_eos": True},
        "messages": [*first_turn, {"role": "assistant", "content": said}, {"role": "user", "content": "And after 9?"}],
    }  # fmt: skip
    with second_decode(network):
        stream = client_of(gateways[1]).chat.completions.create(
            **ask, stream=True, stream_options={"include_usage": True}
        )
        text, killed, usage, computed = "", False, None, 0.0
        for chunk in stream:
            usage = chunk.usage or usage
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            if not killed and len(text) > 60:
                computed = network.counters("prefill")["prefill_blocks_computed"] - before
                killed = kill_who_answers(network)
        assert killed and usage is not None and usage.completion_tokens == 120
        assert cached(usage) >= answer.usage.prompt_tokens - 32, "the first turn's prompt, but for its last block"
        again = client_of(gateways[0]).chat.completions.create(**{**ask, "max_tokens": 119})
        assert text.startswith(again.choices[0].message.content or "nothing")
    assert computed < answer.usage.prompt_tokens // 16, "nothing of the first turn is computed twice"


def second_decode(network: RunningNetwork) -> Any:
    """A decode producer of another node."""
    log = (network.home / "second.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "ndn_infer", "produce", "--functions", "decode", "--set", "network.node=n2"],
        env=network.environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
    )  # fmt: skip
    wait_ready(process, [], network.home / "second.log")
    ends = ExitStack()
    ends.callback(log.close)
    ends.callback(stop, process)
    return ends


def kill_who_answers(network: RunningNetwork) -> bool:
    for producer in network.status()["producers"]:
        if producer["identity"].endswith("/decode") and producer.get("running"):
            os.kill(producer["pid"], signal.SIGKILL)
            return True
    return False
