"""Prefill of a real engine (small, random weights) over a real forwarder core: it computes for those who wait."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer import ndn  # noqa: E402
from ndn_infer.config import CallConfig, Config, EngineConfig  # noqa: E402
from ndn_infer.engine.engine import Engine, StepOutput  # noqa: E402
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork  # noqa: E402
from ndn_infer.functions import lifetime  # noqa: E402
from ndn_infer.functions.engine_host import EngineHost  # noqa: E402
from ndn_infer.functions.prefill import Prefill  # noqa: E402
from ndn_infer.kv.token_blocks import TokenChain, publish_token_blocks  # noqa: E402
from ndn_infer.namespace import blocks_prefix  # noqa: E402
from ndn_infer.records.prefill import PrefillRequest  # noqa: E402
from ndn_infer.security.domains import PUBLIC  # noqa: E402
from ndn_infer.transport.calls.ask import Ask  # noqa: E402
from tests.harness import NET, Node, keychain_in, role  # noqa: E402
from tests.inprocess.test_streams import until  # noqa: E402

MODEL = "ef" * 32
BLOCK = 16
BLOCKS = 250
READ = 70
"""The block that is waited for: it comes later than work that nobody waits for ends."""
STEP_S = 0.03


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=8192, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=8192, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


async def test_prefill_computes_as_long_as_somebody_asks_for_blocks_and_no_longer(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in blocks; each step of the engine takes a while and gives one."""
    step = Engine.step

    def slow(engine: Engine) -> list[StepOutput]:
        time.sleep(STEP_S)
        return step(engine)

    monkeypatch.setattr(Engine, "step", slow)
    monkeypatch.setattr(lifetime, "UNWANTED_S", 0.5)
    monkeypatch.setattr(lifetime, "LOOK_S", 0.1)
    engine = EngineConfig(dtype="fp32", threads=1, chunk_tokens=BLOCK, block_tokens=BLOCK)
    config = replace(Config(), call=replace(CallConfig(), deadline_s=20.0), engine=engine)
    network, keychain = MemoryNetwork(), keychain_in(tmp_path, "prefill", "decode")
    producer = await Node(network, keychain, config, asks_as="prefill").open()
    reader = await Node(network, keychain, config, asks_as="decode").open()
    await reader.registrar.start()
    host = EngineHost(MODEL, folder, engine)
    offered = await producer.produce(Prefill(MODEL, host))
    assert host.format is not None and host.engine is not None

    ids, signer = tuple(range(3, 3 + BLOCKS * BLOCK)), keychain.signer_for(role("decode"))
    await publish_token_blocks(reader.server, NET, TokenChain(MODEL, BLOCK, PUBLIC), ids, signer)
    tokens = blocks_prefix(NET, MODEL, "tokens")
    reader.server.serve(tokens, signer)
    await reader.registrar.register(tokens)
    values = [value.hex() for value in PUBLIC.chain_values(ids, BLOCK)]
    request = PrefillRequest(tuple(values), 0, BLOCK, host.format.codec)
    answered = await reader.caller.start(Ask(("model", MODEL), "prefill", request))
    block = host.connector(offered._host, PUBLIC).blocks.name(bytes.fromhex(values[READ]))
    found = await reader.fetcher.await_object(block, hints=(ndn.from_uri(answered.answer.hint),), deadline_s=60.0)
    assert found.manifest is not None and not producer.counters["ended_unwanted"]

    await until(lambda: producer.counters["ended_unwanted"] == 1, 20.0)
    await asyncio.sleep(2 * STEP_S)  # the step that was being computed
    computed = host.engine.counters.blocks_prefilled
    assert READ < computed < BLOCKS
    await asyncio.sleep(0.5)
    assert host.engine.counters.blocks_prefilled == computed and host.engine.idle
    await offered.close()
    for node in (reader, producer):
        await node.close()
    network.close()
