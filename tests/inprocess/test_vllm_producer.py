"""A producer over vLLM's process, without vLLM: a program that counts stands in its place behind the same pipe.

What vLLM itself does behind it: tests/vllm/test_both_backends.py."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ndn_infer.config import CallConfig, Config, EngineConfig, FetchConfig
from ndn_infer.errors import CallError, NetworkError
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.decode import Generate
from ndn_infer.functions.vllm_answer import REPLAYS, VllmHost
from ndn_infer.models.store import ModelFolder
from ndn_infer.records import GenerateRequest, Sampling, TokenEvent
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.vllm.backend import process
from tests.harness import Node, keychain_in, role
from tests.inprocess.test_streams import until

MODEL = "cd" * 32
COUNTER = """
import json, os, sys, threading, time
stopped, lock = set(), threading.Lock()
def say(**what):
    with lock:
        print(json.dumps(what), flush=True)
def answer(order):
    size, most = len(order["ids"]), order["params"]["max_tokens"]
    extra = order["params"].get("extra_args")
    replayed = len(extra["ndn_infer"][2]) if extra else 0
    with lock, open(sys.argv[0] + ".begun", "a") as begun:
        print(size, replayed, file=begun)
    for at in range(most):
        while at == replayed and os.path.exists(sys.argv[0] + ".hold") and order["number"] not in stopped:
            time.sleep(0.01)
        if order["number"] in stopped:
            return
        token = [100 + (size + at) % 500, -0.5, []]
        say(**{"is": "Made", "number": order["number"], "tokens": [token], "cached": 128 * (size > 128),
               "finish": "length" if at == most - 1 else "", "prompt_s": 0.01, "spent_s": 0.002})
        time.sleep(0.002)
say(**{"is": "EngineFacts", "dtype": "bf16", "weights": "bf16", "implementation": "vllm-0-digest", "machine": "cpu",
       "context": 4096, "vocabulary": 49152, "places": 4, "block_tokens": 128})
for line in sys.stdin:
    order = json.loads(line)
    if order["is"] == "Stop":
        stopped.add(order["number"])
    else:
        threading.Thread(target=answer, args=(order,), daemon=True).start()
"""


@asynccontextmanager
async def world(
    tmp_path: Path, folder: Path, queue_limit: int = 16, replay: int = 0
) -> AsyncIterator[tuple[Node, Node, VllmHost]]:
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{COUNTER}")
    program.chmod(0o755)
    engine = EngineConfig(
        backend="vllm", vllm_python=str(program), max_streams=4, queue_limit=queue_limit, vllm_replay=replay
    )
    config = replace(
        Config(), engine=engine, call=replace(CallConfig(), deadline_s=20.0),
        fetch=replace(FetchConfig(), stream_idle_s=3.0),
    )  # fmt: skip
    network, keychain = MemoryNetwork(), keychain_in(tmp_path / "keys", "decode", "user")
    producer = await Node(network, keychain, config, asks_as="decode").open()
    reader = await Node(network, keychain, config, asks_as="user").open()
    await reader.registrar.start()
    host = VllmHost(folder, engine)
    offered = await producer.produce(Generate(MODEL, folder, host))
    offer = offered.offered(keychain.signer_for(role("decode")))
    assert offer.engine == "bf16.bf16.vllm-0-digest.paged.cpu.raw" and (offer.places, offer.free) == (4, 4)
    yield producer, reader, host
    await offered.close()
    assert not host.process.up and not host.running
    for node in (reader, producer):
        await node.close()
    network.close()


async def read(
    reader: Node, prompt: int, tokens: int, most: int = 1 << 20, engine: str = "", answered: int = 0
) -> list[TokenEvent]:
    request = GenerateRequest(
        Sampling(tokens, ignore_eos=True), prompt=tuple(range(5, 5 + prompt)),
        engine=engine or "bf16.bf16.vllm-0-digest.paged.cpu.raw", answered=answered,
    )  # fmt: skip
    events: list[TokenEvent] = []
    async with aclosing(reader.caller.stream(Ask(("model", MODEL), "generate", request), TokenEvent)) as stream:
        async for event, _ in stream:
            events.append(event)
            if sum(len(one.ids) for one in events) >= most:
                break
    return events


def ids_of(events: list[TokenEvent]) -> list[int]:
    return [token for event in events for token in event.ids]


async def test_answers_end_with_a_receipt_and_go_on_after_a_pause(tmp_path: Path, smollm2: ModelFolder) -> None:
    async with world(tmp_path, smollm2.path) as (producer, reader, host):
        events = await read(reader, 200, 40)
        receipt = events[-1].receipt
        assert ids_of(events) == [100 + (200 + at) % 500 for at in range(40)] and events[-1].finish == "length"
        assert receipt is not None and (receipt.prompt.local, receipt.prompt.computed) == (128, 72)
        assert receipt.prefill_us == 2000 and receipt.decode_us == 39 * 2000
        with pytest.raises(CallError) as refused:
            await read(reader, 10, 4, engine="bf16.bf16.llama-torch-3.grouped.avx512.raw")
        assert refused.value.code == "wrong-engine" and "vllm" in refused.value.offered
        # left, paused, and read again: the same answer, whose rest is asked for after the tokens that there are
        left = await read(reader, 30, 3000, most=20)
        await until(lambda: not host.running, 20.0)
        made = producer.counters["tokens_decoded"]
        back = await read(reader, 30, 3000, most=made + 50)
        assert ids_of(back)[: made + 50] == [100 + (30 + at) % 500 for at in range(made + 50)]
        assert ids_of(left)[:20] == ids_of(back)[:20]


async def test_an_answer_that_goes_on_is_decoded_again_up_to_where_it_was(tmp_path: Path, smollm2: ModelFolder) -> None:
    async with world(tmp_path, smollm2.path, replay=30) as (producer, reader, host):
        for answered, cached in ((20, 0), (30, 0), (31, 128)):  # of 140 tokens; the program has 128 of more than 128
            events = await read(reader, 140, 10, answered=answered)
            receipt = events[-1].receipt
            assert ids_of(events) == [100 + (140 + at) % 500 for at in range(10)] and events[-1].finish == "length"
            assert receipt is not None and receipt.prompt.local == cached
            assert receipt.decode_us == (9 + (answered if not cached else 0)) * 2000
        left = await read(reader, 30, 3000, most=20)
        await until(lambda: not host.running, 20.0)
        made = producer.counters["tokens_decoded"]
        back = await read(reader, 30, 3000, most=made + 50)
        assert ids_of(left)[:20] == ids_of(back)[:20] == [100 + (30 + at) % 500 for at in range(20)]


async def test_tokens_decoded_again_are_no_prompt_and_no_first_token(tmp_path: Path, smollm2: ModelFolder) -> None:
    hold = tmp_path / "python.hold"
    hold.touch()
    async with world(tmp_path, smollm2.path, replay=100) as (_, reader, host):
        reading = asyncio.ensure_future(read(reader, 140, 10, answered=100))
        await until(lambda: host.decoded == 99)  # the first one came with the prompt
        (answer,) = host.running
        first_token = answer._order.times.first_token
        assert answer.progress().state == "decode" and first_token.unit_s == 0.0
        hold.unlink()
        receipt = (await reading)[-1].receipt
        assert receipt is not None and (receipt.prompt.local, receipt.prompt.computed) == (0, 40)
        assert host.prefilled == 40 and host.decoded == 109 and first_token.unit_s > 0.0


async def test_readers_who_come_and_go_have_tokens_decoded_again_three_times(
    tmp_path: Path, smollm2: ModelFolder
) -> None:
    """Then they are computed as a prompt, so that the answer comes on."""
    hold, begun = tmp_path / "python.hold", tmp_path / "python.begun"
    async with world(tmp_path, smollm2.path, replay=100) as (_, reader, host):
        hold.touch()
        for _ in range(REPLAYS):
            left = asyncio.ensure_future(read(reader, 50, 10, answered=15))
            await until(lambda: bool(host.running))
            left.cancel()
            await until(lambda: not host.running, 20.0)
        hold.unlink()
        assert len(ids_of(await read(reader, 50, 10, answered=15))) == 10
        assert begun.read_text().splitlines() == ["35 15"] * REPLAYS + ["50 0"]


async def test_paused_answers_take_no_places(tmp_path: Path, smollm2: ModelFolder) -> None:
    async with world(tmp_path, smollm2.path, queue_limit=0) as (producer, reader, host):
        for prompt in range(10, 14):
            await read(reader, prompt, 3000, most=5)
        await until(lambda: not host.running, 20.0)
        assert len(ids_of(await read(reader, 20, 5))) == 5


async def test_answers_of_a_vllm_that_dies_are_lost_and_not_wrong(
    tmp_path: Path, smollm2: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "AGAIN_S", (0.05,))
    async with world(tmp_path, smollm2.path) as (producer, reader, host):
        reading = asyncio.ensure_future(read(reader, 10, 3000))
        await until(lambda: producer.counters["tokens_decoded"] > 20)
        assert host.process._child is not None
        os.kill(host.process._child.pid, signal.SIGKILL)
        with pytest.raises(NetworkError):  # after which a client goes on elsewhere
            await reading
        await until(lambda: host.process.up)
        assert len(ids_of(await read(reader, 11, 5))) == 5
