"""The forwarder dies in the middle of a prompt and comes back: nothing is lost but time.

pytest -s tests/integration/test_forwarder_restart.py      prints the longest silence of each run
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from ndn_infer.client import Conversation
from ndn_infer.records import Message, ModelRecord, Sampling
from tests.clients import client_of, config_of
from tests.daemons import RunningNetwork, processes_of

pytestmark = pytest.mark.model

TOKENS = 60
QUESTION = "Tell me a story of a fox who lives beside a river, with all that happens to it in one year."


def forwarder_pid(network: RunningNetwork) -> int:
    for pid in processes_of(network.environment):
        if b"forwarder" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return pid
    raise AssertionError("no forwarder is running")


async def answer(
    client: Conversation,
    model: ModelRecord,
    ids: tuple[int, ...],
    seed: int,
    kill_at: int | None,
    network: RunningNetwork,
) -> tuple[tuple[int, ...], float]:
    """Token ids and the longest silence between two tokens, seconds. The forwarder is killed when `kill_at` tokens
    are there; 0: before the call is sent; a greedy answer does not depend on the seed, its name does."""
    said = client.generate(model, ids, Sampling(TOKENS, seed=seed, ignore_eos=True))
    killed = kill_at is None
    last, silence = time.monotonic(), 0.0
    if kill_at == 0:
        os.kill(forwarder_pid(network), signal.SIGKILL)
        killed = True
    async for _ in said:
        now = time.monotonic()
        last, silence = now, max(silence, now - last)
        if not killed and kill_at is not None and len(said.ids) >= kill_at:
            os.kill(forwarder_pid(network), signal.SIGKILL)
            killed = True
    assert killed
    return tuple(said.ids), silence


async def until_back(network: RunningNetwork, pid: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if forwarder_pid(network) != pid and network.socket.exists():
                    return
            except (AssertionError, OSError):
                pass
            await asyncio.sleep(0.1)


def test_a_prompt_answers_across_a_restart_of_the_forwarder(network: RunningNetwork) -> None:
    """Killed before the call is sent, in mid-answer and near its end: the tokens are those of an undisturbed answer."""

    async def main() -> None:
        async with client_of(config_of(network)) as (client, _):
            model = await client.resolve_model("smollm2-135m-instruct")
            ids = await client.tokenize(model, [Message("user", QUESTION)])
            undisturbed, usual = await answer(client, model, ids, 1, None, network)
            assert len(undisturbed) == TOKENS
            for seed, kill_at in enumerate((0, 20, TOKENS - 5), 2):
                pid = forwarder_pid(network)
                across, silence = await answer(client, model, ids, seed, kill_at, network)
                await until_back(network, pid)
                assert across == undisturbed
                print(f"\nkilled at token {kill_at}: longest silence {silence:.2f} s, undisturbed {usual:.2f} s")

    asyncio.run(main())
