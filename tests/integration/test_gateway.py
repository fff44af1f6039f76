"""The gateway in front of a running network, asked by the stock openai client, and by hand where that is too polite."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import ClientSession
from openai import AsyncOpenAI, OpenAI

from ndn_infer.models.store import ModelFolder
from tests.daemons import RunningNetwork, gateway, run_network

pytestmark = pytest.mark.model

MODEL = "smollm2-135m-instruct"
EMBEDDER = "all-minilm-l6-v2"
PARIS: Any = [{"role": "user", "content": "What is the capital of France?"}]
STORY: Any = [{"role": "user", "content": "Tell me a story about a lighthouse."}]
KEY = "a-key-of-this-test"


@pytest.fixture(scope="module")
def network(
    smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNetwork]:
    directory = tmp_path_factory.mktemp("net")
    with run_network(directory, model_cache, "--functions", "tokenize,prefill,decode,embed") as running:
        yield running


@pytest.fixture(scope="module")
def base(network: RunningNetwork) -> Iterator[str]:
    with gateway(network, "--set", f"gateway.names=gpt-4o={MODEL}") as (url, _):
        yield url


@pytest.fixture(scope="module")
def client(base: str) -> OpenAI:
    return OpenAI(base_url=base, api_key="none", max_retries=0)


def test_models(client: OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {MODEL, EMBEDDER, "gpt-4o"}
    assert client.models.retrieve(MODEL).id == MODEL
    assert client.models.retrieve("gpt-4o").to_dict()["digest"] == client.models.retrieve(MODEL).to_dict()["digest"]
    named = client.chat.completions.create(model="gpt-4o", messages=PARIS, max_tokens=1)
    assert named.model == "gpt-4o"


def test_a_chat_whole_and_as_a_stream_is_the_same_text(client: OpenAI, network: RunningNetwork) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=PARIS)
    assert "Paris" in (whole.choices[0].message.content or "") and whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    asked = network.ask(PARIS[0]["content"])
    assert whole.usage.prompt_tokens == len(asked["prompt_token_ids"])
    assert whole.usage.completion_tokens == len(asked["token_ids"])
    stream = client.chat.completions.create(
        model=MODEL, messages=PARIS, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "stop"
    assert chunks[-1].choices == [] and all(chunk.usage is None for chunk in chunks[:-1])
    used = chunks[-1].usage
    assert used is not None and used.completion_tokens == whole.usage.completion_tokens
    assert used.prompt_tokens_details is not None
    assert used.prompt_tokens_details.cached_tokens == used.prompt_tokens, "a stored answer"
    plain = list(client.chat.completions.create(model=MODEL, messages=PARIS, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in plain), "usage was not asked for"


def test_stop_seed_and_several_choices(client: OpenAI) -> None:
    ask = client.chat.completions.create
    whole = ask(model=MODEL, messages=STORY, max_tokens=16).choices[0].message.content or ""
    word = whole.split()[2]
    cut = ask(model=MODEL, messages=STORY, max_tokens=16, stop=[word]).choices[0]
    assert cut.finish_reason == "stop" and word not in (cut.message.content or "")
    assert whole.startswith(cut.message.content or "x")
    more: Any = {"model": MODEL, "messages": STORY, "max_tokens": 12, "temperature": 0.9, "top_p": 0.95}
    first, second = (ask(**more, seed=7, n=2) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices] and texts[0] != texts[1]
    assert ask(**more, seed=8).choices[0].message.content == texts[1], "the second choice has the next seed"
    assert first.usage is not None and first.usage.completion_tokens == 24
    streamed = ["", ""]
    for chunk in ask(**more, seed=7, n=2, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


def test_log_probabilities_and_bias(client: OpenAI) -> None:
    ask = client.chat.completions.create
    answer = ask(model=MODEL, messages=PARIS, max_tokens=5, logprobs=True, top_logprobs=3).choices[0]
    assert answer.logprobs is not None and answer.logprobs.content is not None
    entries = answer.logprobs.content
    assert "".join(entry.token for entry in entries) == answer.message.content
    assert all(len(entry.top_logprobs) == 3 and entry.logprob <= 0 for entry in entries)
    assert all(entry.top_logprobs[0].token == entry.token for entry in entries), "greedy takes the likeliest"
    none = ask(model=MODEL, messages=PARIS, max_tokens=2, logprobs=True).choices[0].logprobs
    assert none is not None and none.content is not None and none.content[0].top_logprobs == []
    legacy = client.completions.create(model=MODEL, prompt="Once upon a", max_tokens=4, logprobs=2).choices[0]
    assert legacy.logprobs is not None and legacy.logprobs.tokens is not None
    assert "".join(legacy.logprobs.tokens) == legacy.text and legacy.logprobs.text_offset == [
        sum(map(len, legacy.logprobs.tokens[:place])) for place in range(4)
    ]
    first = ask(model=MODEL, messages=PARIS, max_tokens=1, logit_bias={"260": 100}).choices[0].message.content
    assert first != ask(model=MODEL, messages=PARIS, max_tokens=1).choices[0].message.content


def test_completions_of_texts_and_of_token_ids(client: OpenAI, network: RunningNetwork) -> None:
    made = client.completions.create(model=MODEL, prompt=["One, two, three,", "A, B, C,"], max_tokens=6, echo=True)
    assert [choice.index for choice in made.choices] == [0, 1]
    assert made.choices[0].text.startswith("One, two, three,") and made.choices[1].text.startswith("A, B, C,")
    ids = network.ask(PARIS[0]["content"], "--max-tokens", "0")["prompt_token_ids"]
    by_ids = client.completions.create(model=MODEL, prompt=ids, max_tokens=6)
    chat = client.chat.completions.create(model=MODEL, messages=PARIS, max_tokens=6)
    assert by_ids.choices[0].text == chat.choices[0].message.content
    assert by_ids.usage is not None and by_ids.usage.prompt_tokens == len(ids)
    chunks = list(client.completions.create(model=MODEL, prompt=ids, max_tokens=6, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == by_ids.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"


def test_prompts_with_log_probabilities(client: OpenAI, smollm2: ModelFolder) -> None:
    """The form in which lm-eval asks. The numbers are those of transformers in fp32, but for the rounding of bf16: half
    a step is 0.06 at logits of 16. In fp32 they are equal (test_engine_oracle.py)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = ["Once upon a time, in a land far away,", "The capital of France is Paris. " * 60]
    tokenizer = AutoTokenizer.from_pretrained(smollm2.path, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(smollm2.path, local_files_only=True, dtype=torch.float32).eval()
    prompts = [tokenizer(text).input_ids for text in texts]
    made = client.completions.create(model=MODEL, prompt=prompts, echo=True, logprobs=1, max_tokens=1, seed=1234)
    for choice, ids, text in zip(made.choices, prompts, texts, strict=True):
        assert choice.text.startswith(text) and choice.logprobs is not None
        told, top = choice.logprobs.token_logprobs, choice.logprobs.top_logprobs
        assert told is not None and top is not None and len(told) == len(ids) + 1 == len(top)
        first: Any = (told[0], top[0])
        assert first == (None, None)
        with torch.inference_mode():
            rows = torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)
        wanted = [float(rows[at, token]) for at, token in enumerate(ids[1:])]
        errors = [abs(one - other) for one, other in zip(told[1:-1], wanted, strict=True)]
        assert max(errors) < 0.3 and sum(errors) / len(errors) < 0.06
        agree = [max(some.values()) == one for one, some in zip(told[1:-1], top[1:-1], strict=True)]
        greedy = [int(rows[at].argmax()) == token for at, token in enumerate(ids[1:])]
        assert sum(one != other for one, other in zip(agree, greedy, strict=True)) <= 1
        assert "".join(choice.logprobs.tokens or ()) == choice.text
    for prompt in (texts[0], prompts[0]):
        bare = client.completions.create(model=MODEL, prompt=prompt, echo=True, logprobs=1, max_tokens=0).choices[0]
        assert bare.text == texts[0] and bare.finish_reason == "length" and bare.logprobs is not None
        assert made.choices[0].logprobs is not None and made.choices[0].logprobs.token_logprobs is not None
        assert bare.logprobs.token_logprobs == made.choices[0].logprobs.token_logprobs[:-1]
    chunks = list(
        client.completions.create(model=MODEL, prompt=prompts[1], echo=True, logprobs=1, max_tokens=1, stream=True)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == made.choices[1].text
    rows_told = [chunk.choices[0].logprobs.token_logprobs or [] for chunk in chunks if chunk.choices[0].logprobs]
    assert made.choices[1].logprobs is not None
    assert [one for row in rows_told for one in row] == made.choices[1].logprobs.token_logprobs


async def test_tokens_of_texts_and_messages_and_back(base: str, network: RunningNetwork) -> None:
    root, said = base.removesuffix("/v1"), "What is the capital of France ?"
    ids = network.ask(PARIS[0]["content"], "--max-tokens", "0")["prompt_token_ids"]
    async with ClientSession() as session:

        async def ask(path: str, **body: Any) -> Any:
            async with session.post(f"{root}/{path}", json={"model": MODEL, **body}) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        chat = await ask("tokenize", messages=PARIS)
        assert chat == {"count": len(ids), "max_model_len": 8192, "tokens": ids, "token_strs": None}
        shown = (await ask("detokenize", tokens=ids))["prompt"]
        assert shown.startswith("<|im_start|>system") and PARIS[0]["content"] in shown
        text = await ask("tokenize", content=said)
        assert (await ask("detokenize", tokens=text["tokens"]))["content"] == said
        strings = await ask("tokenize", prompt=said, return_token_strs=True)
        assert "".join(strings["token_strs"]) == said and strings["tokens"] == text["tokens"]
        async with session.post(f"{root}/detokenize", json={"model": MODEL, "tokens": [1 << 31]}) as answer:
            assert answer.status == 400 and "0 to 49151" in await answer.text()


def test_embeddings(client: OpenAI) -> None:
    texts = ["a cat", "a kitten", "tax law"]
    by_default = client.embeddings.create(model=EMBEDDER, input=texts)  # the client asks for base64
    plain = client.embeddings.create(model=EMBEDDER, input=texts, encoding_format="float")
    cat, kitten, law = (one.embedding for one in plain.data)
    for one, same in zip(by_default.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(same.embedding)
    assert math.isclose(sum(x * x for x in cat), 1.0, rel_tol=1e-4) and len(cat) == 384
    dot = [sum(x * y for x, y in zip(cat, other, strict=True)) for other in (kitten, law)]
    assert dot[0] > dot[1]
    assert plain.usage.prompt_tokens == 4 + 4 + 4, "two words each, and what stands around them"


def test_errors_have_their_kind(client: OpenAI, base: str) -> None:
    ask = client.chat.completions.create
    with pytest.raises(openai.NotFoundError, match="no model called 'nobody'"):
        ask(model="nobody", messages=PARIS)
    tool: Any = {"type": "function", "function": {"name": "f"}}
    image: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    for more, param in (
        ({"messages": PARIS, "functions": [tool]}, "functions"), ({"messages": image}, "messages[0].content[0].type"),
        ({"messages": PARIS, "logit_bias": {"999999": 1}}, None), ({"messages": PARIS, "max_tokens": 8192}, "messages"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "messages"),
    ):  # fmt: skip
        with pytest.raises(openai.BadRequestError) as found:
            ask(model=MODEL, **more)
        assert found.value.param == param
    assert found.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="text-embedding"):
        ask(model=EMBEDDER, messages=PARIS)
    with pytest.raises(openai.BadRequestError, match="causal-lm"):
        client.embeddings.create(model=MODEL, input="x")
    with pytest.raises(openai.BadRequestError, match="1 of these texts"):
        client.embeddings.create(model=EMBEDDER, input=["short", "word " * 300])
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")


async def test_what_no_polite_client_sends(base: str) -> None:
    url = f"{base}/chat/completions"
    body = json.dumps({"model": MODEL, "messages": PARIS, "max_tokens": 1})
    plain = {"Content-Type": "application/json"}
    async with ClientSession() as session:
        for headers, sent, status in (
            (plain, "{", 400), ({"Content-Type": "text/plain"}, body, 415), (plain, " " * (5 << 20), 413),
            ({**plain, "Origin": "http://evil.example"}, body, 403), ({**plain, "X-Request-Id": "mine-1"}, body, 200),
        ):  # fmt: skip
            async with session.post(url, data=sent, headers=headers) as answer:
                assert answer.status == status, await answer.text()
                document = await answer.json()
                assert status == 200 or set(document["error"]) == {"message", "type", "param", "code"}
        assert answer.headers["X-Request-Id"] == "mine-1"
        async with session.get(url) as answer:
            assert answer.status == 405 and answer.headers["X-Request-Id"].startswith("req_")
        async with session.get(f"{base.removesuffix('/v1')}/health") as answer:
            assert await answer.json() == {"status": "ok"}


async def test_who_leaves_ends_the_decoding(network: RunningNetwork, base: str) -> None:
    """A reader goes away in the middle, of a stream and of a whole answer: the engine stops, long before the end."""
    before = network.counters("decode")["tokens_decoded"]
    story: Any = [{"role": "user", "content": "Write a very long story about the sea."}]
    async with AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=story, max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(
                model=MODEL, messages=STORY, max_tokens=4000, timeout=1.0, extra_body={"ignore_eos": True}
            )
    deadline, counts = time.monotonic() + 30, [before, -1.0]
    while counts[-1] != counts[-2] and time.monotonic() < deadline:
        await asyncio.sleep(0.3)
        counts.append(network.counters("decode")["tokens_decoded"])
    assert counts[-1] == counts[-2] and 0 < counts[-1] - before < 4000


def test_keys_and_limits_and_a_clean_end(network: RunningNetwork, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    keys.chmod(0o600)
    settings = ("--set", "gateway.requests=1", "--api-key-file", str(keys))
    with gateway(network, *settings) as (url, process):
        with pytest.raises(openai.AuthenticationError):
            OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()
        client = OpenAI(base_url=url, api_key=KEY, max_retries=0)
        stream = client.chat.completions.create(model=MODEL, messages=STORY, max_tokens=60, stream=True)
        next(stream)
        with pytest.raises(openai.RateLimitError) as found:
            client.chat.completions.create(model=MODEL, messages=PARIS)
        assert found.value.response.headers["Retry-After"] == "1"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIConnectionError):
            for _ in range(50):  # what listens goes first
                OpenAI(base_url=url, api_key=KEY, max_retries=0).models.list()
                time.sleep(0.1)
        chunks = list(stream)
        assert chunks[-1].choices[0].finish_reason in ("length", "stop"), "what was begun is finished"
        assert process.wait(20) == 0
