"""What reaches the terminal: control characters made visible, encodings that lack a letter, lines of children."""

from __future__ import annotations

import io
import json
import sys

import pytest

from ndn_infer.apps import log_read, repo, status
from ndn_infer.cli import main
from ndn_infer.console.terminal import SafeStream, one_line, safe_output, visible
from ndn_infer.local.child_lines import LastWords, shown
from ndn_infer.repo.records import RepoEntry


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "\x1b]52;c;aGk=\x07", "a\rb", "\x9b31m", "\u202eevil", "\u2066x", "a\x00b", "\x7f", "\x0b", "\u2028"],
)
def test_no_text_commands_the_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with safe_output():
        print(text)
        print(json.dumps({"x": text}, ensure_ascii=False))
    plain, document = capsys.readouterr().out.splitlines()
    assert all(letter.isprintable() for letter in plain) and "\\u00" in plain or "\\u2" in plain
    assert json.loads(document) == {"x": text}, "JSON calls the characters the same"


def test_ordinary_text_is_left_as_it_is() -> None:
    text = "tab\tline\n日本語 é 👍🏽 עברית"
    assert visible(text) == text and one_line("a\nb\x1b") == "a b\\u001b"


def test_errors_of_others_are_one_line_without_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["names", "/x/\x1b[31m\nndn-infer: all is well"]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.err + said.out


def test_an_encoding_that_lacks_a_letter_loses_no_answer() -> None:
    raw = io.BytesIO()
    stream = SafeStream(io.TextIOWrapper(raw, encoding="latin-1"))
    stream.write("café 日本")
    stream.flush()
    assert raw.getvalue() == "café \\u65e5\\u672c".encode("latin-1")


def test_output_is_the_users_own_again_afterwards() -> None:
    before = sys.stdout
    main(["names"])
    assert sys.stdout is before


def log_line(level: str, message: str, **more: str) -> str:
    return json.dumps({"time": "t", "level": level, "logger": "ndn_infer.x", "message": message, **more})


def test_every_warning_and_error_of_a_child_is_shown() -> None:
    """Only lines that held " W " were passed on: an error is worse."""
    for level, letter in {"warning": "W", "error": "E", "critical": "C", "info": "I"}.items():
        line = shown(
            "decode", log_line(level, "it broke", exception="Traceback\nValueError: no"), ready=True, as_json=False
        )
        assert line == f"[decode] {letter} it broke: ValueError: no"
    assert shown("decode", "Segmentation fault", ready=True, as_json=False) == "[decode] Segmentation fault"
    assert shown("decode", "  preparing ...", ready=False, as_json=False) is None
    whole = json.loads(shown("decode", log_line("error", "x"), ready=False, as_json=True) or "")
    assert whole["process"] == "decode" and whole["level"] == "error"
    assert json.loads(shown("decode", "plain", ready=True, as_json=True) or "")["message"] == "plain"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["ndn-infer: no model", "  run this"], ("no model", "run this")),
        ([log_line("error", "disk"), "  bar"], ("disk", "")),
        (["Traceback (most recent call last):", '  File "x"', "ValueError: no"], ("ValueError: no", "")),
        ([], ("it gave no reason", "")),
        (["{", "[1]", '{"message": 1}'], ('{"message": 1}', "")),
    ],
)
def test_last_words(lines: list[str], reason: tuple[str, str]) -> None:
    words = LastWords()
    for line in lines:
        words.add(line)
    assert words.reason() == reason


# ---------------------------------------------------------------- lists of what others wrote: one line each

FORGED = "bob\n      2  erased      /net/operator\x1b[2J"


@pytest.mark.parametrize(
    "found",
    [
        {"kind": "asked", "user": FORGED, "call": FORGED, "text": FORGED, "messages": (), "ids": (), "time_us": 0},
        {"kind": "answered", "user": "b", "call": "c", "text": "", "messages": (), "ids": (FORGED,), "time_us": 0},
        {"kind": "erased", "key": "00", "by": FORGED}, {"kind": "damaged", "why": FORGED},
    ],
)  # fmt: skip
def test_no_record_of_a_log_looks_like_two(found: dict[str, object]) -> None:
    line = log_read._line({"index": 1, **found})
    assert line.startswith("      1  ") and line.isprintable()


def test_no_entry_of_a_repo_and_no_producer_looks_like_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert repo._line(RepoEntry(FORGED, 7)).isprintable()
    nothing = dict.fromkeys((
        "in_interests", "out_interests", "in_data", "out_data", "pit_entries", "entries", "capacity", "hits", "misses",
        "known",
    ), 0)  # fmt: skip
    spoken = {"identity": "/a", "pid": 1, "queue": 0, "running": 0, "subjects": [FORGED], "functions": [FORGED]}
    producers = [{"identity": "/b", "error": FORGED}, {**spoken, "engines": {FORGED: FORGED}, "counters": {FORGED: 1}}]
    document = {"forwarder": {**nothing, "uri": "u", "version": "1"}, "content_store": nothing, "faces": [],
                "routes": [], "offers": nothing, "producers": producers}  # fmt: skip
    status.print_status(document, {}, verbose=1)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 12 and not any(line.startswith("      2") for line in said)
