"""The main job through real processes, real packets and the real model."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.models.store import ModelFolder
from ndn_infer.records import Message, Sampling, TokenizeRequest, Tokens
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.tensors import RawTensor, decode_tensor
from ndn_infer.transport.calls.ask import Ask
from tests.clients import client_of, config_of
from tests.daemons import RunningNetwork
from tests.load.bogus import campaign

pytestmark = pytest.mark.model

README = Path(__file__).resolve().parents[2] / "README.md"


def test_paris(network: RunningNetwork) -> None:
    answer = network.ask("Which city is the capital of France? Answer with its name alone.")
    assert "Paris" in answer["text"]
    assert answer["finish"] == "stop"
    kinds = {use["kind"] for use in answer["names"]}
    assert kinds >= {"catalogue record", "call", "result", "KV block"}
    assert {key.split("/")[-3] for key in answer["verified_keys"]} >= {"operator", "tokenize", "decode"}


def test_prefill_runs_elsewhere_and_decode_computes_no_block_that_exists_by_name(network: RunningNetwork) -> None:
    prompt = "List the planets of the solar system in order, with one fact about each of them, please."
    before = network.counters("prefill").get("prefill_blocks_computed", 0)
    here = network.counters("decode").get("engine_blocks_prefilled", 0)
    answer = network.ask(prompt, "--max-tokens", "8")
    blocks = len(answer["prompt_token_ids"]) // 16
    prefill, decode = network.counters("prefill"), network.counters("decode")
    assert blocks >= 3
    assert prefill["prefill_blocks_computed"] > before
    assert answer["kv_blocks"]["prefilled"] + answer["kv_blocks"]["local"] == blocks
    assert answer["kv_blocks"]["recomputed"] == 0
    assert decode.get("engine_blocks_prefilled", 0) == here  # the engine's own count, not the function's belief
    assert network.pid("prefill") == network.pid("decode"), "one engine: weights take most of the memory"


def test_same_question_again_is_answered_by_the_content_store(network: RunningNetwork) -> None:
    prompt = "Name three colours of the rainbow."
    first = network.ask(prompt)
    before = {role: network.counters(role) for role in ("tokenize", "prefill", "decode")}
    second = network.ask(prompt)
    after = {role: network.counters(role) for role in ("tokenize", "prefill", "decode")}
    assert second["text"] == first["text"]
    assert after == before
    sources = {use["source"] for use in second["names"] if use["kind"] in ("call", "result", "catalogue record")}
    assert sources == {"Content Store"}
    assert second["stored"] and not first["stored"]
    assert "KV block" not in {use["kind"] for use in second["names"]}, "where KV came from is old news by then"
    said = network.run("ask", "--no-embedded", "--max-tokens", "256", "--", prompt).stderr
    assert "Content Store of this machine: computed for an earlier question" in said and len(said.splitlines()) <= 5


def test_standard_input_stop_and_seed(network: RunningNetwork) -> None:
    done = network.run("ask", "-", "--no-embedded", "--max-tokens", "12", "--quiet", text="Count from one to ten.")
    assert done.returncode == 0 and done.stdout.strip()
    whole = network.ask("Count: 1, 2, 3, 4, 5, 6", "--max-tokens", "24")
    word = whole["text"].split()[1]
    cut = network.ask("Count: 1, 2, 3, 4, 5, 6", "--max-tokens", "24", "--stop", word)
    assert word in whole["text"] and word not in cut["text"] and whole["text"].startswith(cut["text"])
    options = ("--temperature", "0.9", "--top-p", "0.9", "--max-tokens", "16", "--seed")
    one, same, other = (network.ask("Tell me a story.", *options, seed) for seed in ("7", "7", "8"))
    assert one["token_ids"] == same["token_ids"] != other["token_ids"]


def test_long_prompt_is_pulled_by_name(network: RunningNetwork) -> None:
    text = "The lighthouse keeper wrote the weather into his book every morning. " * 120
    answer = network.ask(text + "What did the keeper write?", "--max-tokens", "8")
    assert len(text) > 8000  # neither the text nor its ids fit an Interest
    assert len(answer["prompt_token_ids"]) > 1000
    assert answer["kv_blocks"]["recomputed"] == 0


def test_prompt_beyond_the_context(network: RunningNetwork) -> None:
    done = network.run("ask", "--no-embedded", "-", text="word " * 9000)
    assert done.returncode == 2
    assert "tokens" in done.stderr and "8192" in done.stderr and "Traceback" not in done.stderr


def test_killed_prefill_is_restarted_and_the_prompt_completes_meanwhile(network: RunningNetwork) -> None:
    prompt = "Explain why the sky is blue in one sentence for a child who likes simple words."
    pid = network.pid("prefill")
    os.kill(pid, signal.SIGKILL)
    answer = network.ask(prompt, "--max-tokens", "12")
    assert len(answer["token_ids"]) == 12
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        producers = {p["identity"]: p for p in network.status()["producers"]}
        back = next((p for name, p in producers.items() if name.endswith("/prefill")), {})
        if back.get("pid") not in (None, pid):
            return
        time.sleep(0.5)
    raise AssertionError("prefill was not started again")


def test_detokenize_and_embed_by_name(network: RunningNetwork, smollm2: ModelFolder, minilm: ModelFolder) -> None:
    """Text comes back from its ids; token embeddings are the rows of the weights; sentence vectors have length 1."""

    async def calls() -> tuple[str, RawTensor, RawTensor]:
        async with client_of(config_of(network)) as (client, _):
            model, text_model = ("model", smollm2.digest), ("model", minilm.digest)
            text = "Grüße, 世界! 😀 def f(x): return x"
            call = client.caller.call
            ids = (await call(Ask(model, "tokenize", TokenizeRequest(text=text)), Tokens)).ids
            back = (await call(Ask(model, "detokenize", DetokenizeRequest(ids=ids)), Text)).text
            assert back == text
            rows = await call(Ask(model, "embed", EmbedRequest(ids=(5, 7, 49151))), TensorRecord)
            vectors = await call(
                Ask(text_model, "embed", EmbedRequest(texts=("a cat", "a kitten", "tax law"))), TensorRecord
            )
            return back, decode_tensor(rows.tensor), decode_tensor(vectors.tensor)

    _, rows, vectors = asyncio.run(calls())
    width = smollm2.manifest.facts.hidden
    assert (rows.dtype, rows.shape) == ("bf16", (3, width))
    from safetensors import safe_open

    with safe_open(smollm2.path / "model.safetensors", framework="pt") as weights:
        import torch

        expected = weights.get_tensor("model.embed_tokens.weight")[[5, 7, 49151]]
    assert bytes(rows.payload) == expected.contiguous().view(torch.uint8).numpy().tobytes()
    matrix = np.frombuffer(vectors.payload, "<f4").reshape(vectors.shape)
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)
    assert matrix[0] @ matrix[1] > matrix[0] @ matrix[2] + 0.2


def test_status_for_people(network: RunningNetwork) -> None:
    done = network.run("status")
    assert done.returncode == 0
    assert "Content Store" in done.stdout and "/decode" in done.stdout
    offers = next(line for line in done.stdout.splitlines() if line.startswith("offers: "))
    told = network.status()["offers"]
    assert told["known"] == told["own"] >= 3 and told["places"] >= told["free"] > 0
    assert f"{told['known']} of this machine" in offers and "places free" in offers


def test_the_readme_asks_a_prompt_through_the_library_in_eight_lines(network: RunningNetwork) -> None:
    block = re.search(r"As a library.*?```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert block is not None and len(block[1].splitlines()) <= 8
    environment = {**network.environment, "NDN_CLIENT_TRANSPORT": f"unix://{network.socket}"}
    done = subprocess.run(
        [sys.executable, "-c", block[1]], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Paris" in done.stdout, done.stderr


def test_two_conversations_at_once_on_one_connection_keep_their_ledgers_apart(network: RunningNetwork) -> None:
    questions = ("Name a colour of the sky at dusk.", "Which animal barks at night?")

    async def read(conversation: Conversation, question: str) -> Answer:
        answer = await conversation.ask("smollm2-135m-instruct", question, Sampling(16))
        async for _ in answer:
            pass
        return answer

    async def main() -> list[Answer]:
        async with client_of(config_of(network)) as (_, node), Client(node) as client:
            pairs = [(client.conversation(), question) for question in questions]
            return await asyncio.gather(*(read(*pair) for pair in pairs))

    answers = asyncio.run(main())
    assert len({answer.text for answer in answers}) == 2 and all(answer.ids for answer in answers)
    for answer in answers:
        uses = list(answer.conversation.ledger.uses())
        assert sum(use.uses for use in uses if use.kind == "catalogue record") == 1
        assert sum(use.uses for use in uses if use.kind == "call") == 2
    calls = [{use.example for use in item.conversation.ledger.uses() if use.kind == "call"} for item in answers]
    assert not calls[0] & calls[1]


def test_leaving_the_loop_of_an_answer_ends_its_reading_at_once_and_its_decoding_soon(network: RunningNetwork) -> None:
    most = 2000

    async def main() -> int:
        async with client_of(config_of(network)) as (conversation, node):
            record = await conversation.resolve_model("smollm2-135m-instruct")
            prompt = await conversation.tokenize(record, [Message("user", "Count to a thousand.")])
            answer = conversation.generate(record, prompt, Sampling(most, ignore_eos=True))
            async for _ in answer:
                if len(answer.ids) > 8:
                    break
            await asyncio.sleep(0)  # the closing itself is a task
            await asyncio.sleep(0.05)
            sent = node.endpoint.stats.interests_out
            await asyncio.sleep(2.0)
            assert node.endpoint.stats.interests_out == sent
            return len(answer.ids)

    before = network.counters("decode").get("tokens_decoded", 0)
    seen = asyncio.run(main())
    time.sleep(1.0)  # a status record is up to half a second old
    made = network.counters("decode")["tokens_decoded"] - before
    time.sleep(2.0)
    assert network.counters("decode")["tokens_decoded"] - before == made
    assert seen <= made < most


async def test_honest_questions_are_answered_while_bogus_calls_come(network: RunningNetwork) -> None:
    """What tests/load/bogus.py does with ten thousand calls, in small: all are answered, and no more is admitted than
    there are seats. How long it takes is not judged here."""
    report = await campaign(network, calls=600, rate=200, questions=3)
    assert report.unanswered == 0 and len(report.attacked) == 3
    assert 0 < report.admitted <= report.seats
