"""What is asked, after all defaults: the prompt, how tokens are chosen, where it is answered from.

Owns: the options of `ask` and the ranges of what they say. Must not know: networks, how a question is answered.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ndn_infer.config import Config
from ndn_infer.errors import BadRecord, PromptError, UsageError
from ndn_infer.records import Sampling
from ndn_infer.records.forms import RecordForm
from ndn_infer.security.domain_store import DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """`corpus` is the alias of a served corpus, `folder` one of this machine: at most one of both is set."""

    text: str
    system: str
    model: str
    sampling: Sampling
    corpus: str = ""
    folder: Path | None = None
    passages: int = 4
    min_score: float = 0.0
    domain: str = PUBLIC.label
    """The label of a domain's newest epoch here."""


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-tokens", type=int, help="maximum tokens of the answer; 0: tokenize the prompt only")
    parser.add_argument("--temperature", type=float, help="0 is greedy")
    parser.add_argument("--top-p", type=float, help="nucleus sampling; 0 or 1 is off")
    parser.add_argument("--top-k", type=int, help="sample from the K most likely tokens; 0 or -1 disables")
    parser.add_argument("--min-p", type=float, help="drop tokens less likely than P times the most likely; 0 is off")
    parser.add_argument(
        "--repetition-penalty", type=float, help="above 1 penalises tokens that occurred before; 1 is off"
    )
    parser.add_argument("--frequency-penalty", type=float, help="-2 to 2, penalty per occurrence in the answer")
    parser.add_argument("--presence-penalty", type=float, help="-2 to 2, penalty for tokens that occur in the answer")
    parser.add_argument(
        "--logprobs", type=int, metavar="N", help="with --json: log probabilities of the N most likely tokens"
    )
    parser.add_argument("--seed", type=int, help="same seed, same answer (default: random when temperature is above 0)")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")


def read_question(options: argparse.Namespace, config: Config) -> Question:
    """Raises PromptError for an empty prompt or one that is no text, UsageError for values outside their range."""
    text = _prompt(options.prompt)
    sampling = _sampling(options, config)
    if sampling.logprobs and not options.json:
        raise UsageError("--logprobs needs --json: they are part of its document")
    system = _or(options.system, config.ask.system)
    for value in (text, system, *sampling.stop):
        _check_text(value)
    corpus, folder = _documents(options.rag)
    passages = _or(options.passages, config.ask.passages)
    if not 1 <= passages <= 50:
        raise UsageError(f"--passages is 1 to 50, not {passages}")
    return Question(
        text, system, options.model or config.ask.model, sampling, corpus, folder, passages,
        _or(options.min_score, config.ask.min_score), _domain(options, config),
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


def _sampling(options: argparse.Namespace, config: Config) -> Sampling:
    ask = config.ask
    temperature = _or(options.temperature, ask.temperature)
    top_p, top_k = _or(options.top_p, ask.top_p), _or(options.top_k, ask.top_k)
    sampling = Sampling(
        max_tokens=_or(options.max_tokens, ask.max_tokens),
        temperature=temperature,
        top_p=1.0 if top_p == 0 else top_p,
        top_k=0 if top_k == -1 else top_k,
        seed=options.seed if options.seed is not None else (secrets.randbits(32) if temperature > 0 else 0),
        stop=tuple(options.stop),
        min_p=_or(options.min_p, 0.0),
        repetition_penalty=_or(options.repetition_penalty, 1.0),
        frequency_penalty=_or(options.frequency_penalty, 0.0),
        presence_penalty=_or(options.presence_penalty, 0.0),
        logprobs=_or(options.logprobs, 0),
    )
    _check(sampling)
    return sampling


def _check(sampling: Sampling) -> None:
    """By the bounds of the request's own type: nobody should wait for a model to learn of a wrong number."""
    for name, form in RecordForm.of(Sampling).forms.items():
        value = getattr(sampling, name)
        try:
            form.write(value)
        except BadRecord as error:
            raise UsageError(f"--{name.replace('_', '-')} must be {form.says}, not {_shown(value)}") from error


def _shown(value: object) -> str:
    text = ", ".join(map(repr, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _documents(given: str | None) -> tuple[str, Path | None]:
    """--rag: a folder of this machine, or the alias of a corpus that the network serves. What is written like a path
    is a path."""
    if given is None:
        return "", None
    folder = Path(given).expanduser()
    if given and folder.is_dir():
        return "", folder
    if not given or folder.exists() or given.startswith(("/", ".", "~")) or "/" in given:
        what = f"{given} is not a folder" if given and folder.exists() else f"there is no folder {given!r}"
        raise UsageError(what, hint="--rag takes a folder of text and Markdown, or the alias of a served corpus")
    return given, None


def _domain(options: argparse.Namespace, config: Config) -> str:
    if options.domain in ("", PUBLIC.label):
        return PUBLIC.label
    if options.rag:
        raise UsageError("--rag asks a corpus in public: everybody could read the question", hint="leave out --domain")
    return tenant_of(DomainStore(config.keys_dir).find(options.domain)).newest.label


def _or(given: T | None, default: T) -> T:
    return default if given is None else given
