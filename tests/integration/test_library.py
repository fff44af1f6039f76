"""The library and `ndn-infer chat` on one running network: the examples of docs/, conversations, cancellation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ndn_infer
from ndn_infer.errors import NoForwarder, UsageError
from ndn_infer.library import Network
from tests.daemons import RunningNetwork

pytestmark = pytest.mark.model

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; del sys.argv[0]; runpy.run_path(sys.argv[0])"
LONG = "Write a long story about a fox and a hen, with many details."


def settings(network: RunningNetwork) -> dict[str, object]:
    data = network.home / ".local" / "share" / "ndn-infer"
    return {
        "network.transport": f"unix://{network.socket}", "network.net": "/ndn-infer/local", "paths.data_dir": data
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("ask", [], ["Paris", "x KV block"]),
        ("two_turns", [], ["Paris", "5 messages"]),
        ("two_conversations", [], ["Rome", "Madrid", "names were used"]),
        ("documents", ["{notes}", "When does the choir meet?"], ["[1] choir.md", "/passage/"]),
        ("object_by_name", ["/ndn-infer/local/catalog/model/smollm2-135m-instruct"], ["operator/KEY", "catalogue"]),
    ],
)
def test_examples_run_without_torch(
    network: RunningNetwork, tmp_path: Path, name: str, arguments: list[str], said: list[str]
) -> None:
    (tmp_path / "choir.md").write_text("# Choir\n\nThe choir meets every Thursday at seven in the old school.\n")
    given = [argument.replace("{notes}", str(tmp_path)) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(EXAMPLES / f"{name}.py"), *given],
        env=network.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in said:
        assert words in done.stdout
    assert not done.stderr


def test_every_example_is_run() -> None:
    run = {argument[0] for mark in test_examples_run_without_torch.pytestmark for argument in mark.args[1:2][0]}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == run and len(run) == 5


async def test_leaving_the_loop_ends_the_answer_and_not_the_conversation(network: RunningNetwork) -> None:
    async with ndn_infer.connect(settings=settings(network)) as joined:
        chat = joined.conversation()
        reply = chat.ask(LONG, max_tokens=400)
        async for _ in reply:
            break
        assert await chat.ask("What is the capital of France?", max_tokens=8).read()
        assert [message.role for message in chat.messages] == ["user", "assistant"] * 2
        assert chat.messages[1].content == reply.text and not reply.finish
        assert len(reply.tokens) < 200


async def test_one_conversation_reads_one_answer_at_a_time(
    network: RunningNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ndn_infer.library.chat.ONE_AT_A_TIME_S", 0.1)
    async with ndn_infer.connect(settings=settings(network)) as joined:
        chat = joined.conversation()
        async with chat.ask(LONG, max_tokens=100) as first:
            async for _ in first:
                with pytest.raises(UsageError, match="still reading"):
                    await chat.ask("Hello").read()
                break
        with pytest.raises(UsageError, match="temperature must be 0 to 100"):
            chat.ask("Hello", temperature=-1)


def test_the_plain_form_ends_its_thread_and_what_was_left_open(network: RunningNetwork) -> None:
    with ndn_infer.connect_sync(settings=settings(network)) as joined:
        thread = joined.thread
        for _ in joined.chat(LONG, max_tokens=200):
            break
        left = iter(joined.chat(LONG, max_tokens=300))
        assert next(left)
    assert thread.closed
    with pytest.raises(UsageError, match="not connected"):
        joined.chat("Hello")
    left.close()


async def test_without_a_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoForwarder) as raised:
        async with ndn_infer.connect(
            settings={"network.transport": f"unix://{tmp_path}/no.sock", "paths.data_dir": tmp_path}
        ) as joined:
            assert isinstance(joined, Network)
    assert "ndn-infer up" in raised.value.hint


def test_import_is_cheap() -> None:
    code = "import ndn_infer, sys; print(sorted({'asyncio', 'torch', 'numpy', 'cryptography'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
