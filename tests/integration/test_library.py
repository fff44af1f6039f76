"""The library and `ndn-infer chat` on one running network: the examples of docs/, conversations, cancellation."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ndn_infer
from ndn_infer.errors import BadName, NetworkError, NoForwarder, UsageError
from ndn_infer.library import Network
from ndn_infer.records import Message
from ndn_infer.security.domains import is_sealed
from tests.daemons import RunningNetwork, run_command, stop
from tests.tmux_kit import missing, tmux

pytestmark = pytest.mark.model

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
RUN_ALL = """
import json, runpy, sys
sys.modules["torch"] = None
for path, *arguments in json.loads(sys.argv[1]):
    print("===", path, flush=True)
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")
"""
"""All examples in one process, in which torch cannot be imported."""
LONG = "Write a long story about a fox and a hen, with many details."


def settings(network: RunningNetwork) -> dict[str, object]:
    data = network.home / ".local" / "share" / "ndn-infer"
    return {
        "network.transport": f"unix://{network.socket}", "network.net": "/ndn-infer/local", "paths.data_dir": data
    }  # fmt: skip


SHOWN = {
    "ask": ([], ["Paris", "x KV block"]),
    "two_turns": ([], ["Paris", "5 messages"]),
    "tool": ([], ["multiply({'first': ", "}) = "]),
    "two_conversations": ([], ["Rome", "Madrid", "names were used"]),
    "documents": (["{notes}", "When does the choir meet?"], ["[1] choir.md", "/passage/"]),
    "object_by_name": (["/ndn-infer/local/catalog/model/smollm2-135m-instruct"], ["operator/KEY", "catalogue"]),
}
"""Of each example: its arguments, and what it prints."""


def test_examples_run_without_torch(network: RunningNetwork, tmp_path: Path) -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SHOWN)
    (tmp_path / "choir.md").write_text("# Choir\n\nThe choir meets every Thursday at seven in the old school.\n")
    runs = [[str(EXAMPLES / f"{name}.py"), *arguments] for name, (arguments, _) in SHOWN.items()]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(runs).replace("{notes}", str(tmp_path))],
        env=network.environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    for shown, (name, (_, words)) in zip(done.stdout.split("=== ")[1:], SHOWN.items(), strict=True):
        for word in words:
            assert word in shown, (name, shown)


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


# ---------------------------------------------------------------- saved conversations

SAID = [Message("user", "Where do we go?"), Message("assistant", "To the lake.")]


async def test_a_conversation_is_saved_in_a_domain_and_sealed(network: RunningNetwork) -> None:
    done = network.run("domain", "create", "lake")
    assert done.returncode == 0, done.stderr
    async with (
        ndn_infer.connect(settings=settings(network)) as one,
        ndn_infer.connect(settings=settings(network)) as two,
    ):
        chat = one.conversation(domain="lake", messages=SAID)
        saved = await one.save(chat, "holiday")
        assert not saved.kept and saved.why and saved.file is not None, "there is no repo"
        assert b"lake" not in saved.file.read_bytes(), "sealed on the disk, too"
        there = await two.get(saved.name)
        assert is_sealed(there.content) and b"lake" not in there.content and there.kind == "saved conversation"
        for name in ("holiday", saved.name):
            loaded = await two.load(name, domain="lake")
            assert (loaded.messages, loaded.domain, loaded.model) == (SAID, chat.domain, chat.model)
        with pytest.raises(NetworkError, match="holiday"):
            await two.load("holiday")
        chat.messages.append(Message("user", "When?"))
        await one.save(chat, "holiday")
        await asyncio.sleep(1.1)  # as long as a cache may give the older one
        assert len((await two.load("holiday", domain="lake")).messages) == 3


async def test_what_was_saved_in_public_goes_on_in_the_domain_that_is_named(network: RunningNetwork) -> None:
    network.run("domain", "create", "shore")
    async with ndn_infer.connect(settings=settings(network)) as joined:
        saved = await joined.save(joined.conversation(messages=SAID), "trip")
        loaded = await joined.load(saved.name, domain="shore")
        assert loaded.messages == SAID and loaded.domain == joined.conversation(domain="shore").domain
        with pytest.raises(BadName, match="names no conversation"):
            await joined.save(loaded, "a/b")
        with pytest.raises(UsageError, match="nothing was said"):
            await joined.save(joined.conversation(), "empty")
        with pytest.raises(UsageError, match="too long"):
            await joined.save(joined.conversation(messages=[Message("user", "x" * (1 << 20))]), "long")
        with pytest.raises(BadName, match="names no conversation"):
            await joined.load("/ndn-infer/local/catalog/model/smollm2-135m-instruct")


# ---------------------------------------------------------------- the command


def test_a_chat_of_two_turns_from_a_pipe_goes_on_at_another_node(network: RunningNetwork) -> None:
    node = {**network.environment, "NDN_INFER_NETWORK_NODE": "n2"}
    with repo(network):
        lines = ["What is the capital \\", "of France?", "And of Italy?", "/names", "/nonsense", "/save cities"]
        first = network.run("chat", "--no-embedded", "--max-tokens", "10", text="\n".join(lines))
        assert "Paris" in first.stdout and "Rome" in first.stdout, first.stdout + first.stderr
        assert "KV blocks of the prompt" in first.stdout and "operator/KEY" in first.stdout
        assert "in the decode node's memory" in first.stdout, "the second turn reuses the first"
        assert "there is no command /nonsense" in first.stderr and first.returncode == 2
        assert "a repo keeps it" in first.stderr
        name = next(line for line in first.stdout.splitlines() if "saved: " in line).partition("saved: ")[2]
        # The first process is gone, and this is another machine's user.
        second = run_command(
            "chat", "--no-embedded", "--quiet", "--load", name, "--max-tokens", "8",
            environment=node, text="/model\n/model nothing\n/save again\n",
        )  # fmt: skip
        assert "loaded: 4 messages, model smollm2-135m-instruct" in second.stdout, second.stderr
        assert "/home/n2/user/chat/public/again/" in second.stdout
        assert "no model called 'nothing'" in second.stderr and second.returncode == 5


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_chat_in_a_real_terminal(network: RunningNetwork) -> None:
    """As a user has it: several lines, an answer that is stopped, names, and the chat goes on in another terminal, at
    another node, while this one is open."""
    command = [sys.executable, "-m", "ndn_infer", "chat", "--no-embedded"]
    with tmux() as terminals:
        one = terminals.open("one", command, network.environment)
        one.until_prompt()
        one.type("What is the capital \\")
        one.until("\n.")
        one.type("of France?")
        one.until("Paris", "answer tokens")
        one.until_prompt()
        one.type(LONG)
        began = len(one.until(LONG))
        while len(one.shown()) < began + 60:
            time.sleep(0.02)
        one.press("C-c")
        one.until("stopped; what was said so far is part of the conversation")
        one.until_prompt()
        one.press("Up")
        assert one.until(LONG, count=2).endswith(LONG), "what was typed can be had again"
        one.interrupt("Ctrl-D ends the chat", count=2)  # it began with these words
        one.until_prompt()
        one.type("/names")
        one.until("operator/KEY", "/result/", "it was stopped")
        one.type("/save here")
        shown = one.until("on this machine alone")
        name = next(line for line in shown.splitlines() if "saved: " in line).partition("saved: ")[2].strip()
        node = {**network.environment, "NDN_INFER_NETWORK_NODE": "n2"}
        two = terminals.open("two", [*command, "--max-tokens", "8"], node)
        two.until_prompt()
        two.type(f"/load {name}")
        two.until("loaded: 4 messages", f"user: {LONG}")
        two.type("What is the capital of Italy?")
        two.until("answer tokens")
        two.until_prompt()
        for screen in (two, one):
            screen.press("C-d")
            screen.until_ended()


def test_control_c_ends_the_answer_and_control_d_the_chat(network: RunningNetwork) -> None:
    with terminal(network, "chat", "--no-embedded", "--max-tokens", "400") as chat:
        chat.until("> ")
        chat.type(f"{LONG}\n")
        chat.until_answer(LONG)
        chat.type("\x03")
        assert "stopped" in chat.until("> ")
        chat.type("x")
        chat.until("x")  # now readline waits for keys: one that comes before that interrupts nothing until the next one
        chat.interrupt("Ctrl-D ends the chat")
        chat.until("> ")
        chat.type("/reset\n")
        chat.until("> ")
        chat.type("What is the capital of France?\n")
        assert "Paris" in chat.until("answer tokens")
        chat.until("> ")
        chat.type("\x04")
        assert chat.process.wait(15) == 0
    history = network.home / ".local" / "share" / "ndn-infer" / "chat_history"
    assert "capital of France" in history.read_text() and history.stat().st_mode & 0o777 == 0o600


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], side: int) -> None:
        self.process = process
        self._side = side
        self._shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def type(self, keys: str) -> None:
        os.write(self._side, keys.encode())

    def until(self, words: str, *, within_s: float = 60.0) -> str:
        """What is shown up to `words`; the next call goes on behind that."""
        return self._until(re.compile(re.escape(words)), within_s)

    def until_answer(self, question: str) -> None:
        """Until words of an answer follow the question: a line that is not indented, as what a chat says itself is."""
        self.until(f"{question}\r\n")
        self._until(re.compile(r"(?:\A|[\r\n])[^\s][^\r\n]{11}"), 60.0)

    def interrupt(self, words: str) -> None:
        """Ctrl-C until `words` are shown. CPython's readline sees a signal between two keys once it waits for the next
        one; the microseconds before that are as if nothing had been pressed."""
        for _ in range(20):
            self.type("\x03")
            with contextlib.suppress(AssertionError):
                self.until(words, within_s=3.0)
                return
        raise AssertionError(self._shown)

    def _until(self, pattern: re.Pattern[str], within_s: float) -> str:
        end = time.monotonic() + within_s
        while (found := pattern.search(self._shown)) is None:
            assert time.monotonic() < end, self._shown
            if select.select([self._side], [], [], 0.5)[0]:
                self._shown += self._decoder.decode(os.read(self._side, 65536))
        shown, self._shown = self._shown[: found.end()], self._shown[found.end() :]
        return shown


def _as_a_terminal_starts_it() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests may ignore it


@contextlib.contextmanager
def terminal(network: RunningNetwork, *arguments: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ndn_infer", *arguments], env={**network.environment, "TERM": "dumb"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=_as_a_terminal_starts_it,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


@contextlib.contextmanager
def repo(network: RunningNetwork) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "ndn_infer", "repo", "serve"], env=network.environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stdout.readline().startswith("READY")
        yield
    finally:
        stop(process)
