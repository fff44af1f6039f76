"""What is asked, after all defaults: the prompt, how tokens are chosen, where it is answered from.

Owns: the options of `ask` and the ranges of what they say. Must not know: networks, how a question is answered.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, TypeVar, cast

from ndn_infer.apps.answer_shape import shape_given
from ndn_infer.config import Config
from ndn_infer.errors import PromptError, UsageError
from ndn_infer.files import path_of
from ndn_infer.library.parameters import HowToAnswer, sampling_of
from ndn_infer.records.sampling import Sampling, words_of
from ndn_infer.security.domain_store import DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC

T = TypeVar("T")

MAX_CORPORA: Final = 16
"""Of one question: each is a call."""


@dataclass(frozen=True, slots=True)
class AskOptions:
    """`corpora` are aliases of served corpora, `folder` one of this machine."""

    text: str
    system: str
    model: str
    sampling: Sampling
    corpora: tuple[str, ...] = ()
    folder: Path | None = None
    passages: int = 4
    min_score: float = 0.0
    domain: str = PUBLIC.label
    """The label of a domain's newest epoch here."""
    domain_name: str = ""
    """What its owner calls it; "" is the public one."""


POLICY_HELP: Final = "show nothing that a guard's verdict under this policy (file, alias or digest) does not cover"

_FLAGS: Final = {
    "max_tokens": "maximum tokens of the answer; with 0 the prompt is tokenized only",
    "temperature": "0 is greedy",
    "top_p": "nucleus sampling; 0 or 1 is off",
    "top_k": "sample from the K most likely tokens; 0 or -1 is off",
    "min_p": "drop tokens less likely than P times the most likely; 0 is off",
    "repetition_penalty": "above 1 penalises tokens that occurred before; 1 is off",
    "frequency_penalty": "penalty per occurrence in the answer",
    "presence_penalty": "penalty for tokens that occur in the answer",
    "logprobs": "with --json: log probabilities of the N most likely tokens",
    "seed": "same seed, same answer (default: random when temperature is above 0)",
}
"""Parameters of sampling that are numbers, as flags; their ranges are those of the request."""


def add_sampling_arguments(parser: argparse.ArgumentParser, *, without: Sequence[str] = ()) -> None:
    kinds = {item.name: type(item.default) for item in fields(Sampling)}
    for name in [flag for flag in _FLAGS if flag not in without]:
        words = _FLAGS[name]
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kinds[name], metavar="N", help=f"{words} ({words_of(name)})"
        )
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")


def read_question(options: argparse.Namespace, config: Config) -> AskOptions:
    """Raises PromptError for an empty prompt or one that is no text, UsageError for values outside their range."""
    text = _prompt(options.prompt)
    sampling = sampling_of(config, sampling_given(options, config) | shape_given(options))
    if sampling.logprobs and not options.json:
        raise UsageError("--logprobs needs --json: they are part of its document")
    system = _or(options.system, config.ask.system)
    for value in (text, system, *sampling.stop):
        _check_text(value)
    corpora, folder = _documents(options.rag)
    passages = _or(options.passages, config.ask.passages)
    if not 1 <= passages <= 50:
        raise UsageError(f"--passages is 1 to 50, not {passages}")
    return AskOptions(
        text, system, options.model or config.ask.model, sampling, corpora, folder, passages,
        _or(options.min_score, config.ask.min_score), *_domain(options, config),
    )  # fmt: skip


def _prompt(given: str | None) -> str:
    """The prompt, from the command line or from standard input ('-', or nothing given and a pipe)."""
    text = given
    if given == "-" or (given is None and not sys.stdin.isatty()):
        try:
            text = sys.stdin.read().removesuffix("\n")  # what echo adds is no part of the question
        except UnicodeDecodeError as error:
            raise _not_text("standard input", error.start) from error
    if text is None:
        raise PromptError("which question?", hint='ndn-infer ask "Why is the sky blue?", or pipe it in')
    if not text.strip():
        raise PromptError("the prompt is empty", hint="give a prompt, or '-' to read it from standard input")
    return text


def _check_text(text: str) -> None:
    """Bytes of the command line that are no UTF-8 come as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _not_text("the prompt", error.start) from error


def _not_text(what: str, position: int) -> PromptError:
    return PromptError(
        f"{what} is not UTF-8 text (character {position + 1})",
        hint="convert it first, e.g. iconv -f LATIN1 -t UTF-8 question.txt | ndn-infer ask -",
    )


def sampling_given(options: argparse.Namespace, config: Config) -> HowToAnswer:
    """The parameters that flags give, by name. Raises UsageError for one out of its range."""
    named = {name: getattr(options, name, None) for name in _FLAGS}
    given = {name: value for name, value in named.items() if value is not None} | {"stop": options.stop}
    sampling = sampling_of(config, given)
    if refused := sampling.refused():
        name, range_ = refused
        raise UsageError(f"--{name.replace('_', '-')} must be {range_}, not {_shown(getattr(sampling, name))}")
    return cast(HowToAnswer, given)


def _shown(value: object) -> str:
    text = ", ".join(map(repr, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _documents(given: Sequence[str]) -> tuple[tuple[str, ...], Path | None]:
    """--rag, which may stand several times: aliases of corpora that the network serves, and a folder of this machine.
    What is written like a path is a path."""
    aliases: dict[str, None] = {}
    folders: dict[Path, None] = {}
    for text in given:
        folder = path_of(text)
        if text and folder.is_dir():
            folders[folder] = None
        elif not text or folder.exists() or text.startswith(("/", ".", "~")) or "/" in text:
            what = f"{text} is not a folder" if text and folder.exists() else f"there is no folder {text!r}"
            raise UsageError(what, hint="--rag takes a folder of documents, or the alias of a served corpus")
        else:
            aliases[text] = None
    if len(folders) > 1 or len(aliases) + len(folders) > MAX_CORPORA:
        raise UsageError(
            f"one question takes one folder, and {MAX_CORPORA} corpora in all",
            hint="serve folders with 'ndn-infer produce --functions rag --corpus DIR' and name their aliases",
        )
    return tuple(aliases), next(iter(folders), None)


def _domain(options: argparse.Namespace, config: Config) -> tuple[str, str]:
    """Label and name of the domain that is asked in."""
    if options.domain in ("", PUBLIC.label):
        return PUBLIC.label, ""
    return tenant_of(DomainStore(config.keys_dir).find(options.domain)).newest.label, options.domain


def _or(given: T | None, default: T) -> T:
    return default if given is None else given
