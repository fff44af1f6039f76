"""Producers in processes of their own, vLLM behind them: one that is killed, one that goes on, and a third that
computes with our own engine and must not."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.client.engine_choice import EngineChoice
from ndn_infer.errors import NdnInferError
from ndn_infer.local.prepare import record_of
from ndn_infer.models.store import ModelFolder
from ndn_infer.namespace import Role
from ndn_infer.node.keys import net_name
from ndn_infer.records import Message, ModelRecord, Sampling
from ndn_infer.vllm.backend.processor_time import family_of
from tests.load import failover_net
from tests.load.failover_net import FRONT, FailoverNet, running

pytestmark = [
    pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="make test-vllm"),
    pytest.mark.timeout(580),
]
MODEL = "smollm2-135m-instruct"
SETTINGS = {"engine.threads": "1", "fetch.deadline_s": "5", "call.deadline_s": "60", "call.attempts": "60"}
VLLM = {
    "engine.backend": "vllm", "engine.vllm_python": os.environ.get("VLLM_PYTHON", ""), "engine.kv_memory_mib": "512",
    "engine.vllm_replay": "400",
    "engine.vllm_args": json.dumps(
        {"enforce_eager": True, "max_model_len": 2048, "distributed_executor_backend": "uni"}
    ),
}  # fmt: skip
QUESTION = "Tell a long story about a lighthouse keeper."
TOKENS = 200


@dataclass
class Mixed:
    """d0 and d1 compute with vLLM, one on each side of the network; d2 with our own engine."""

    net: FailoverNet
    client: Client
    record: ModelRecord
    classes: dict[str, str]

    def conversation(self, node: str) -> Conversation:
        """Of a user who wants the class of this node's engine and no other."""
        made = self.client.conversation()
        made.engines = EngineChoice(self.net.config("c0", FRONT))
        made.engines.only(self.record.digest, self.classes[node])
        return made

    async def prompt(self) -> tuple[int, ...]:
        return await self.client.conversation().tokenize(self.record, (Message("user", QUESTION),))

    async def start_vllm(self, *nodes: str) -> None:
        self.net.settings |= VLLM
        try:
            await asyncio.gather(*(self.net.start_producer(node, int(node[1:]), "decode", MODEL) for node in nodes))
        finally:
            for name in VLLM:
                self.net.settings.pop(name, None)
        await self.net.relink()

    async def busy(self) -> list[str]:
        """Nodes with vLLM that say that they answer somebody."""
        await self.client.offers.look()
        return [
            _node(self.net, entry.identity)
            for entry in self.client.offers.entries()
            if entry.offer.engine == self.classes["d0"] and entry.offer.free < entry.offer.places
        ]

    async def kill(self, node: str) -> None:
        """With a vLLM behind it, which ends too."""
        process = self.net.producers[node].process
        assert process is not None
        family = family_of(process.pid)[1:]
        assert family or node == "d2"
        await self.net.producers[node].kill()
        async with asyncio.timeout(60):
            while any(_runs(pid) for pid in family):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@asynccontextmanager
async def mixed(model: ModelFolder, cache: Path) -> AsyncIterator[Mixed]:
    async with running(cache, dict(SETTINGS)) as net, net.consumer() as client:
        made = Mixed(net, client, record_of(model, MODEL), {})
        await net.start_producer("d2", 1, "tokenize,decode", MODEL)
        await made.start_vllm("d0", "d1")
        async with asyncio.timeout(60):
            while len(made.classes) < 3:
                await client.offers.look()
                for entry in client.offers.entries():
                    if entry.offer.engine:
                        made.classes[_node(net, entry.identity)] = entry.offer.engine
        yield made


def _node(net: FailoverNet, identity: bytes) -> str:
    role = Role.parse(net_name(net.config("c0", FRONT)), identity)
    assert role is not None
    return role.node


async def read(world: Mixed, answer: Answer, kill_at: int = 1 << 20) -> list[str]:
    """The answer to its end. The first node that it is read from is killed at its token `kill_at`. Nodes in order."""
    nodes: list[str] = []
    async for event in answer:
        node = _node(world.net, answer.by)
        if node not in nodes[-1:]:
            nodes.append(node)
        if len(answer.ids) >= kill_at and not event.finish and world.net.producers[nodes[0]].running:
            await world.kill(nodes[0])
    return nodes


async def begin(world: Mixed, tokens: int) -> asyncio.subprocess.Process:
    """`ndn-infer ask`. It finds the other one of the class by offers: where routes alone lead, the producer of our own
    engine refuses to go on, which ends the answer."""
    pulled = ",".join(f"/ndn-infer/local/home/{node}" for node in world.classes)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ndn_infer", "ask", "--json", "--no-embedded", "--temperature", "0.8", "--seed", "5",
        "--max-tokens", str(tokens), "--set", f"ask.engine={world.classes['d0']}", "--set", f"offers.pull={pulled}",
        QUESTION, env=world.net._environment("c0", FRONT), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def told_by(process: asyncio.subprocess.Process) -> dict[str, Any]:
    out, error = await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode == 0, f"{out.decode()[-2000:]} {error.decode()[-2000:]}"
    told: dict[str, Any] = json.loads(out)
    return told


async def ask_and_kill(world: Mixed, tokens: int) -> dict[str, Any]:
    """The producer is killed while it answers."""
    async with asyncio.timeout(60):
        while await world.busy():  # noqa: ASYNC110 with the answer before, which is not to be taken for this one
            await asyncio.sleep(0.3)
    process = await begin(world, tokens)
    busy: list[str] = []
    async with asyncio.timeout(120):
        while not busy and process.returncode is None:
            await asyncio.sleep(0.3)
            busy = await world.busy()
    for node in busy:
        await world.kill(node)
    told = await told_by(process)
    assert len(busy) == 1, busy
    return told


def test_killed_and_continued_by_vllm_and_never_mixed(
    smollm2: ModelFolder, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover_net, "READY_S", 240.0)

    async def whole() -> None:
        async with mixed(smollm2, model_cache) as world:
            classes = world.classes
            assert classes["d0"] == classes["d1"] != classes["d2"] and ".vllm-" in classes["d0"]
            undisturbed = await told_by(await begin(world, TOKENS - 1))  # equal questions would be one run
            # a user's command, whose producer is killed: the other vLLM goes on with the tokens that it would have had
            told = await ask_and_kill(world, TOKENS)
            assert told["continued"] >= 1 and told["text"] and len(told["token_ids"]) > 20
            assert told["token_ids"][: TOKENS - 1] == undisturbed["token_ids"] and not undisturbed["continued"]
            # nobody else of its class is left: our own engine does not go on with it
            prompt = await world.prompt()
            lost = Answer(
                world.conversation("d0"), world.record, prompt, Sampling(TOKENS, 0.8, seed=6, ignore_eos=True)
            )
            with pytest.raises(NdnInferError):
                await asyncio.wait_for(read(world, lost, kill_at=TOKENS // 3), 200)
            assert TOKENS // 3 <= len(lost.ids) < TOKENS
            # and answers those who ask for it
            other = Answer(world.conversation("d2"), world.record, prompt, Sampling(8, ignore_eos=True))
            assert await read(world, other) == ["d2"] and len(other.ids) == 8

    asyncio.run(whole())
