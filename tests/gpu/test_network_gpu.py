"""A whole network whose producers compute on a GPU: tokenize, prefill, decode, and somebody who asks by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import ndn_infer
from tests.small_llama import small_model

CONTEXT = 1024
TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


def byte_tokenizer(folder: Path) -> int:
    """A token for every byte; how many there are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": special[1], "eos_token": special[2], "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**names, "chat_template": TEMPLATE}))
    return len(pieces)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    return small_model(made, vocab_size=byte_tokenizer(made), max_position_embeddings=CONTEXT)


async def answers(folder: Path, place: Path, device: str) -> list[tuple[str, int]]:
    """Texts and numbers of tokens of a conversation of two turns, whose second finds KV of the first by name."""
    settings = {
        "engine.device": device, "engine.dtype": "fp32", "engine.prefill_elsewhere": "always", "engine.threads": 1,
        "paths.data_dir": place / "data", "paths.cache_dir": place / "cache",
    }  # fmt: skip
    said = []
    async with ndn_infer.connect(model=str(folder), embedded="always", settings=settings) as network:
        conversation = network.conversation()
        for question in ("Who looks after a lighthouse when there is a storm at sea?", "And who does so by day?"):
            reply = conversation.ask(question, max_tokens=24)
            said.append((await reply.read(), reply.tokens))
    return said


async def test_a_network_on_the_device_answers_as_one_on_the_cpu(folder: Path, tmp_path: Path, device: str) -> None:
    there = await answers(folder, tmp_path / "there", device)
    assert there == await answers(folder, tmp_path / "here", "cpu")
    assert all(tokens for _, tokens in there)
