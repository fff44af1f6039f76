"""`chat` without a network: lines, commands, what is said of errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ndn_infer import cli
from ndn_infer.apps.chat_lines import MORE, PROMPT, ChatCommand, parse, together
from ndn_infer.apps.chat_session import ChatOptions, ChatSession
from ndn_infer.library.continuing import Continued
from ndn_infer.library.saved import SavedAs
from tests.daemons import environment_in, run_command


def lines(*given: str) -> tuple[Callable[[str], str | None], list[str]]:
    prompts: list[str] = []
    left = list(given)

    def next_line(prompt: str) -> str | None:
        prompts.append(prompt)
        return left.pop(0) if left else None

    return next_line, prompts


@pytest.mark.parametrize(
    ("given", "message", "prompts"),
    [
        (["one"], "one", [PROMPT]),
        (["one\\", "two\\", "three", "four"], "one\ntwo\nthree", [PROMPT, MORE, MORE]),
        (["one\\ ", "two"], "one\\ ", [PROMPT]),
        (["one\\"], "one", [PROMPT, MORE]),
        ([""], "", [PROMPT]),
        ([], None, [PROMPT]),
    ],
)
def test_a_backslash_at_the_end_of_a_line_goes_on(given: list[str], message: str | None, prompts: list[str]) -> None:
    next_line, seen = lines(*given)
    assert together(next_line) == message and seen == prompts


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("Why?", "Why?"),
        ("/names", ChatCommand("names")),
        ("/save  my chat ", ChatCommand("save", "my chat")),
        ("//etc/hosts: what is it?", "/etc/hosts: what is it?"),
        ("/", ChatCommand("")),
        (" /names", " /names"),
    ],
)
def test_commands_begin_with_one_slash(text: str, taken: ChatCommand | str) -> None:
    assert parse(text) == taken


def test_options_of_chat() -> None:
    options = cli.parse("chat", ["--temperature", "0.5", "--load", "trip", "--stop", "x"])
    assert (options.temperature, options.load, options.stop) == (0.5, "trip", ["x"])
    with pytest.raises(SystemExit):
        cli.parse("chat", ["--logprobs", "1"])


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--temperature", "-1"], 2, "--temperature must be"),
        (["--domain", "nowhere"], 2, "nowhere"),
        (["--no-embedded"], 3, "ndn-infer up"),
    ],
)
def test_errors_say_what_to_do(tmp_path: Path, arguments: list[str], status: int, words: str) -> None:
    environment = environment_in(tmp_path, tmp_path, NDN_INFER_PATHS_RUNTIME_DIR=str(tmp_path / "run"))
    done = run_command("chat", *arguments, environment=environment, text="Hello\n")
    assert done.returncode == status and words in done.stderr, done.stderr


@pytest.mark.parametrize("kept", [True, False])
def test_each_new_state_of_what_goes_on_has_its_name_said(kept: bool, capsys: pytest.CaptureFixture[str]) -> None:
    state = SavedAs("/n/s/m/user/chat/public/trip/v=7", kept, "" if kept else "no repo", None if kept else Path("/f"))
    chat = SimpleNamespace(chat=SimpleNamespace(steps=[]))
    network = SimpleNamespace(conversation=lambda **_: chat, keep=lambda going, repo: (state, going.label))
    options = ChatOptions({}, None, "", "", quiet=False)
    session = ChatSession(network, options, None)  # type: ignore[arg-type]
    session._continued = Continued(chat.chat, "trip")  # type: ignore[arg-type]
    session._after(0)
    assert f"saved: {state.name}\n" in capsys.readouterr().err
