"""`ask` without a network: what is read as a question, what counts as documents, what is said while one waits."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from ndn_infer import cli
from ndn_infer import config as configuration
from ndn_infer.apps.question import AskOptions, read_question
from ndn_infer.apps.watching import Waiting, words
from ndn_infer.errors import ConfigError, PromptError, UnknownModel, UsageError
from ndn_infer.local.prepare import full_digest, is_path, network_name
from ndn_infer.records import Progress
from ndn_infer.transport.link.links import forwarder_uris

CONFIG = configuration.Config()


def question(*arguments: str) -> AskOptions:
    return read_question(cli.parse("ask", arguments), CONFIG)


class Pipe(io.StringIO):
    def __init__(self, text: str, *, terminal: bool = False) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_a_pipe_is_the_question_without_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in ((), ("-",), ("--quiet",)):
        monkeypatch.setattr(sys, "stdin", Pipe("Why?\n"))
        assert question(*arguments).text == "Why?", "what echo adds is no part of it"
    monkeypatch.setattr(sys, "stdin", Pipe("", terminal=True))
    with pytest.raises(PromptError, match="which question"):
        question()


def test_options_stand_anywhere_and_what_follows_two_dashes_is_no_option() -> None:
    for arguments in (["hi", "--max-tokens", "3"], ["--max-tokens", "3", "hi"], ["--max-tokens", "3", "--", "hi"]):
        assert question(*arguments).text == "hi" and question(*arguments).sampling.max_tokens == 3
    assert question("--json", "--", "--help me").text == "--help me"


COMMANDS_WITH_NAMES = {
    "repo": ("insert", ["--no-pin"], "/x"), "testbed": ("run", ["--timeout", "5"], "three_nodes"),
    "models": ("show", ["--json"], "X"), "keys": ("import", ["--json"], "file"), "domain": ("show", ["--json"], "acme"),
    "bench": (None, ["--runs", "1"], "kv"), "names": (None, ["--json"], "/x"), "get": (None, ["--quiet"], "/x"),
    "audit": (None, ["--json"], "/x"), "cost": (None, ["--json"], "file"),
    "guard": ("test", ["--json"], "house"),
    "log": ("show", ["--json"], "7"), "eval": ("show", ["--json"], "last"), "explain": (None, ["--json"], "/x"),
    "ask": (None, ["--json"], "why"), "metrics": (None, ["--set", "metrics.listen="], "list"),
}  # fmt: skip


@pytest.mark.parametrize("command", sorted(COMMANDS_WITH_NAMES))
def test_positional_arguments_may_follow_options_in_every_command(command: str) -> None:
    action, options, name = COMMANDS_WITH_NAMES[command]
    first = [action] if action else []
    orders = ([*first, *options, name], [*first, name, *options], [*options, *first, name])
    assert len({str(cli.parse(command, order)) for order in orders}) == 1


def test_every_command_with_positional_arguments_is_tried_above() -> None:
    for command in cli.COMMANDS:
        positional = [item for item in cli.command_parser(command)._actions if not item.option_strings]
        assert not positional or command in COMMANDS_WITH_NAMES, command


def test_off_is_off_as_elsewhere() -> None:
    sampling = question("hi", "--top-p", "0", "--top-k", "-1", "--max-tokens", "0").sampling
    assert (sampling.top_p, sampling.top_k, sampling.max_tokens) == (1.0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rag", "/nonexistent", "x"], "there is no folder '/nonexistent'"),
        (["--rag", "./none", "x"], "there is no folder"), (["--rag", "a/b", "x"], "there is no folder"),
        (["--rag", "", "x"], "there is no folder"), (["--rag", __file__, "x"], "is not a folder"),
        (["--passages", "0", "x"], "1 to 50"), (["--top-p", "1.5", "x"], "0 to 1"),
        (["caf\udce9"], "not UTF-8 text"), (["--system", "\udce9", "x"], "not UTF-8 text"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_said_in_words(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        question(*arguments)
    assert caught.value.hint or "must be" in str(caught.value) or "is 1" in str(caught.value)


def test_a_folder_is_a_folder_and_a_word_an_alias(tmp_path: Path) -> None:
    assert question("--rag", str(tmp_path), "x").folder == tmp_path
    assert question("--rag", "notes-of-mine", "x").corpora == ("notes-of-mine",)
    both = question("--rag", "one", "--rag", str(tmp_path), "--rag", "two", "--rag", "one", "x")
    assert (both.corpora, both.folder) == (("one", "two"), tmp_path)
    with pytest.raises(UsageError, match="one question takes"):
        question("--rag", str(tmp_path), "--rag", str(tmp_path.parent), "x")


def test_models_by_path_and_by_the_digits_that_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("/abs/path", "./x", "../x", "~/x", "x.gguf", "."):
        assert is_path(text)
    for text in ("smollm2-135m-instruct", "org/name", "a" * 64):
        assert not is_path(text) and network_name(CONFIG, text) == text
    for text in ("my model", "x\ny", "", "a//b", "a/b/c", "ü"):
        with pytest.raises(UnknownModel, match="neither the alias"):
            network_name(CONFIG, text)

    class Prepared:
        def __init__(self, digest: str) -> None:
            self.digest = digest

    known = [Prepared("ab" * 32), Prepared("abababab" + "c" * 56)]
    monkeypatch.setattr("ndn_infer.local.prepare.list_models", lambda cache_dir: known)
    assert full_digest(CONFIG, "ab" * 8) == "ab" * 32
    assert full_digest(CONFIG, "abcd") == "abcd"
    with pytest.raises(UnknownModel, match="2 prepared models"):
        full_digest(CONFIG, "abababab")


def test_waiting_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert words(Progress("queued", position=1)) == "queued, place 2"
    assert words(Progress("prefill", done_blocks=40, total_blocks=190)) == "prefill, block 40 of 190"
    waiting = Waiting(lines=True, quiet=False)
    for _ in range(3):
        waiting(Progress("queued"))
    waiting(Progress("\x1b[2J"))
    waiting.over()
    assert capsys.readouterr().err == "  queued, place 1\n  \\u001b[2J\n"
    Waiting(lines=False, quiet=False)(Progress("queued"))
    assert capsys.readouterr().err == "", "nothing where nobody watches"


def test_a_misspelt_transport_in_client_conf_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".ndn").mkdir()
    conf = tmp_path / ".ndn" / "client.conf"
    for text, said in {"transprt=unix:///x": "transport", "Transport=unix:///x": "transport"}.items():
        conf.write_text(f"; a comment\n{text}\npib=pib-sqlite3\n")
        with pytest.raises(ConfigError, match=said):
            forwarder_uris("", tmp_path / "s", {"HOME": str(tmp_path)})
    conf.write_text("pib=pib-sqlite3\ntpm=tpm-file\ntransport=unix:///x\n")
    assert forwarder_uris("", tmp_path / "s", {"HOME": str(tmp_path)})[-1] == "unix:///x"
