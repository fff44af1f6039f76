"""Every `ndn-infer ...` that a hint, a help text or the documentation names is a command that there is."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ndn_infer.cli import COMMANDS, command_parser

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = sorted([*ROOT.glob("ndn_infer/**/*.py"), *ROOT.glob("apps/*.py"), *ROOT.glob("testbed/**/*.py")])
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])

_NAMED = re.compile(r"\bndn-infer[ \t]+([a-z][^'\"`;\n)]*)")
"""Up to a quote, a semicolon, a closing bracket or the end of the line."""


def named_in(text: str) -> list[list[str]]:
    """The words of every command that stands at the start of a line of code, or in quotes."""
    found = []
    for match in _NAMED.finditer(text):
        before = text[: match.start()].rpartition("\n")[2]
        quoted = before[-1:] in ("'", "`")
        own_line = not before.strip() or re.fullmatch(r"\s*(\$|sudo|[A-Z_]+=\S+)?\s*(sudo)?\s*", before) is not None
        if quoted or own_line or before.rstrip().endswith(";"):
            found.append(match[1].split("#")[0].split())
    return found


def problem(words: list[str]) -> str:
    """What is wrong with a command; "" for nothing."""
    if words[0] not in COMMANDS:
        return f"no command {words[0]}"
    parser = command_parser(words[0])
    flags = {flag for action in parser._actions for flag in action.option_strings}
    for word in words[1:]:
        flag = word.split("=")[0].strip("[],;.")
        if flag.startswith("--") and len(flag) > 2 and flag not in flags:
            return f"{words[0]} has no option {flag}"
    actions = [item for item in parser._actions if not item.option_strings]
    first = actions[0] if actions else argparse.Action([], "")
    if first.choices is not None and len(words) > 1:
        word = words[1].strip(",.;:")
        if re.fullmatch("[a-z]+", word) and word not in first.choices:
            return f"{words[0]} knows no {word!r}"
    return ""


def test_named_commands_are_there() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: ndn-infer {' '.join(words)}: {why}"
        for path in (*SOURCES, *PAGES)
        for words in named_in(path.read_text("utf-8"))
        if (why := problem(words))
    ]
    assert not wrong, "\n".join(wrong)


def test_this_test_notices_what_is_not_there() -> None:
    text = "run 'ndn-infer keys exports' and `ndn-infer nothing`\n  ndn-infer up --no-such\nan ndn-infer node"
    assert named_in(text) == [["keys", "exports"], ["nothing"], ["up", "--no-such"]]
    assert problem(["keys", "exports"]) and problem(["nothing"]) and problem(["up", "--no-such"])
    assert not problem(["keys", "export", "--out", "FILE"])
