"""What an answer must look like, as flags of `ask`.

Owns: these flags. Must not know: grammars, how a question is asked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ndn_infer.errors import UsageError
from ndn_infer.files import path_of
from ndn_infer.library.answer_shape import AnswerShape


def add_shape_arguments(parser: argparse.ArgumentParser) -> None:
    form = parser.add_argument_group("what the answer must look like").add_mutually_exclusive_group()
    form.add_argument("--json-schema", metavar="FILE|JSON", help="JSON that this JSON schema allows")
    form.add_argument("--regex", metavar="REGEX", help="a text that this regular expression matches wholly")
    form.add_argument("--choice", action="append", metavar="TEXT", help="one of these texts; repeatable")
    form.add_argument("--grammar", type=Path, metavar="FILE", help="what this GBNF grammar derives")


def shape_given(options: argparse.Namespace) -> AnswerShape:
    """Raises UsageError."""
    shape: AnswerShape = {}
    if options.json_schema is not None:
        text = options.json_schema
        shape["schema"] = text if text.lstrip().startswith("{") else _read(Path(text))
    if options.regex is not None:
        shape["regex"] = options.regex
    if options.choice:
        shape["choices"] = options.choice
    if options.grammar is not None:
        shape["gbnf"] = _read(options.grammar)
    return shape


def _read(path: Path) -> str:
    try:
        return path_of(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error})", hint="give a file, or the schema itself") from error
