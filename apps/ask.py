"""Ask a question and stream the answer; every byte of it is named, signed and verified.

Uses a running network when there is one (an `ndn-infer up`, or the forwarder that the NDN client configuration names),
otherwise brings up an embedded one for the duration. Reads the prompt from standard input when it is '-'.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ndn_infer import name as ndn
from ndn_infer.apps.network import EmbeddedNetwork, embedded
from ndn_infer.apps.processes import stop_on_signals
from ndn_infer.apps.produce import corpus_alias
from ndn_infer.apps.session import Session, access_of, ensure_keys, join, role_identity
from ndn_infer.apps.summary import as_json, print_summary
from ndn_infer.client import Client, Outcome, rag_prompt
from ndn_infer.config import Config
from ndn_infer.errors import MissingKey, NoForwarder, PromptError, UnknownModel, UsageError
from ndn_infer.name import Name
from ndn_infer.records import Message, Sampling, TokenLogprobs
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domain_store import DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC
from ndn_infer.security.keychain import Keychain
from ndn_infer.transport.endpoint import Arrival

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", help="the question; '-' reads it from standard input")
    parser.add_argument("--model", default="", help="alias, Hugging Face id, folder or digest (default: ask.model)")
    parser.add_argument("--max-tokens", type=int, help="most tokens of the answer")
    parser.add_argument("--temperature", type=float, help="0 is greedy")
    parser.add_argument("--top-p", type=float, help="nucleus sampling; 1 is off")
    parser.add_argument("--top-k", type=int, help="sample from so many tokens; 0 is off")
    parser.add_argument("--min-p", type=float, help="only tokens of this share of the likeliest or more; 0 is off")
    parser.add_argument("--repetition-penalty", type=float, help="above 1: fewer tokens that came before; 1 is off")
    parser.add_argument("--frequency-penalty", type=float, help="-2 to 2, for every time the answer has a token")
    parser.add_argument("--presence-penalty", type=float, help="-2 to 2, for tokens that the answer has")
    parser.add_argument("--logprobs", type=int, metavar="N", help="with --json: log probabilities of the N likeliest")
    parser.add_argument("--seed", type=int, help="same seed, same answer (default: random when temperature is above 0)")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    parser.add_argument("--system", help="system prompt")
    parser.add_argument("--rag", metavar="CORPUS", help="answer from a corpus: a folder, or the alias of a served one")
    parser.add_argument("--passages", type=int, help="passages that --rag puts into the prompt")
    parser.add_argument("--domain", default="", metavar="NAME", help="ask privately, in a tenant domain")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--trace", action="store_true", help="print every Interest and Data by name")
    parser.add_argument("--quiet", action="store_true", help="the answer alone, no summary")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--embedded", action="store_true", help="always bring up an embedded network")
    group.add_argument("--no-embedded", action="store_true", help="fail when no network is running")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, after all defaults."""

    text: str
    system: str
    model: str
    sampling: Sampling
    corpus: str
    folder: Path | None
    passages: int
    domain: str = PUBLIC.label
    """The label of a domain's newest epoch here."""


def run(options: argparse.Namespace, config: Config) -> int:
    question = read_question(options, config)
    if options.no_embedded:
        keychain = Keychain.open(config.keys_dir)
    else:
        keychain = ensure_keys(config)
    return asyncio.run(_main(options, config, question, keychain))


def read_question(options: argparse.Namespace, config: Config) -> Question:
    """Raises PromptError for an empty prompt, UsageError for values outside their range."""
    text = sys.stdin.read() if options.prompt == "-" else options.prompt
    if not text.strip():
        raise PromptError("the prompt is empty", hint="give a prompt, or '-' to read it from standard input")
    ask = config.ask
    temperature = _or(options.temperature, ask.temperature)
    seed = options.seed if options.seed is not None else (secrets.randbits(32) if temperature > 0 else 0)
    sampling = Sampling(
        max_tokens=_or(options.max_tokens, ask.max_tokens),
        temperature=temperature,
        top_p=_or(options.top_p, ask.top_p),
        top_k=_or(options.top_k, ask.top_k),
        seed=seed,
        stop=tuple(options.stop),
        min_p=_or(options.min_p, 0.0),
        repetition_penalty=_or(options.repetition_penalty, 1.0),
        frequency_penalty=_or(options.frequency_penalty, 0.0),
        presence_penalty=_or(options.presence_penalty, 0.0),
        logprobs=_or(options.logprobs, 0),
    )
    _check(sampling)
    if sampling.logprobs and not options.json:
        raise UsageError("--logprobs needs --json: they are part of its document")
    system = _or(options.system, ask.system)
    folder = Path(options.rag).expanduser() if options.rag else None
    return Question(
        text=text,
        system=system,
        model=options.model or ask.model,
        sampling=sampling,
        corpus=options.rag or "",
        folder=folder if folder is not None and folder.is_dir() else None,
        passages=_or(options.passages, ask.passages),
        domain=_domain(options, config),
    )


def _domain(options: argparse.Namespace, config: Config) -> str:
    if options.domain in ("", PUBLIC.label):
        return PUBLIC.label
    if options.rag:
        raise UsageError("--rag asks a corpus in public: everybody could read the question", hint="leave out --domain")
    return tenant_of(DomainStore(config.keys_dir).find(options.domain)).newest.label


def _or(given: T | None, default: T) -> T:
    return default if given is None else given


def _check(sampling: Sampling) -> None:
    """The producer checks too (engine/sampler.py), but nobody should wait for a model to hear of a wrong number."""
    if sampling.max_tokens < 1:
        raise UsageError(f"--max-tokens must be at least 1, not {sampling.max_tokens}")
    if sampling.top_k < 0 or not 0 < sampling.top_p <= 1:
        raise UsageError("--top-k is not negative, --top-p is above 0 and at most 1")
    for flag, value, least, most in (
        ("--temperature", sampling.temperature, 0, 100),
        ("--min-p", sampling.min_p, 0, 1),
        ("--repetition-penalty", sampling.repetition_penalty, 0.01, 100),
        ("--frequency-penalty", sampling.frequency_penalty, -2, 2),
        ("--presence-penalty", sampling.presence_penalty, -2, 2),
        ("--logprobs", sampling.logprobs, 0, 20),
    ):
        if not least <= value <= most:
            raise UsageError(f"{flag} is {least} to {most}, not {value}")
    if not 0 <= sampling.seed < 1 << 63:
        raise UsageError("--seed is between 0 and 2**63 - 1")
    if any(not text for text in sampling.stop):
        raise UsageError("--stop needs a text")


async def _main(options: argparse.Namespace, config: Config, question: Question, keychain: Keychain) -> int:
    """Race the work against a signal, so that Ctrl-C leaves nothing behind."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    work = asyncio.ensure_future(_ask(options, config, question, keychain))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not work.done():
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        print("\ninterrupted", file=sys.stderr)
        return 130
    return await work


async def _ask(options: argparse.Namespace, config: Config, question: Question, keychain: Keychain) -> int:
    network: EmbeddedNetwork | None = None
    session: Session | None = None
    try:
        if not options.embedded:
            session = await _running(options, config, question, keychain)
        if session is None:
            network = await _bring_up(options, config, question)
            session = await join(config, keychain, uri=network.uri)
        return await _converse(options, config, question, session)
    finally:
        if session is not None:
            await session.close()
        if network is not None:
            await network.stop()


async def _running(
    options: argparse.Namespace, config: Config, question: Question, keychain: Keychain
) -> Session | None:
    """A network that is up and knows the model; None when an embedded one is to be made."""
    named = bool(config.network.transport or os.environ.get("NDN_CLIENT_TRANSPORT"))
    try:
        session = await join(config, keychain)
    except NoForwarder:
        if named or options.no_embedded:
            raise
        return None
    if named or options.no_embedded:
        return session
    try:
        await Client(session.endpoint, session.validator, session.net, config).resolve_model(question.model)
    except UnknownModel:
        await session.close()
        return None
    return session


async def _bring_up(options: argparse.Namespace, config: Config, question: Question) -> EmbeddedNetwork:
    """An embedded network with what this question needs."""
    from ndn_infer.apps.prepare import prepared

    functions = ["tokenize", "prefill", "decode"]
    corpus = question.folder
    if question.corpus and corpus is None:
        raise UsageError(f"no folder {question.corpus}, and no running network that serves a corpus of that name")
    await asyncio.to_thread(prepared, config, question.model, quiet=options.quiet)
    if corpus is not None:
        functions += ["embed", "rag"]
        await asyncio.to_thread(prepared, config, config.ask.embedder, quiet=options.quiet)
    if not options.quiet and not options.json:
        print("  starting an embedded network: forwarder, " + ", ".join(functions), file=sys.stderr, flush=True)
    network = embedded(
        config, functions, model=question.model, embedder=config.ask.embedder, corpus=corpus,
        corpus_name=corpus_alias(corpus) if corpus is not None else "", private=True,
        config_file=options.config, settings=options.settings,
    )  # fmt: skip
    await network.start()
    return network


async def _converse(options: argparse.Namespace, config: Config, question: Question, session: Session) -> int:
    user = _user(session)
    client = Client(
        session.endpoint,
        session.validator,
        session.net,
        config,
        user=user,
        certificates=session.keychain.certificates(),
        access=None if user is None else access_of(session, user),
        domain=question.domain,
    )
    if options.trace:
        session.endpoint.trace = trace_line
    logprobs: list[TokenLogprobs] = []
    try:
        outcome = await _answer(options, question, client, logprobs)
    finally:
        await client.close()
    if options.json:
        document = as_json(outcome, client, session.uri)
        if question.sampling.logprobs:
            document["logprobs"] = logprobs_json(outcome.ids, logprobs)
        print(json.dumps(document, ensure_ascii=False))
    elif not options.quiet:
        print_summary(outcome, client, session.uri)
    return 0


def logprobs_json(ids: Sequence[int], logprobs: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
    """One entry a token: its log probability, and the most likely tokens at its place."""
    return [
        {"id": token, "logprob": told.logprob, "top": [{"id": other, "logprob": value} for other, value in told.top]}
        for token, told in zip(ids, logprobs, strict=False)
    ]


async def _answer(
    options: argparse.Namespace, question: Question, client: Client, logprobs: list[TokenLogprobs]
) -> Outcome:
    """`logprobs` receives those of the answer's tokens."""
    model = await client.resolve_model(question.model)
    outcome = Outcome(model, ())
    text = question.text
    if question.corpus:
        alias = corpus_alias(question.folder) if question.folder is not None else question.corpus
        corpus = await client.resolve_corpus(alias)
        outcome.cited = await client.lookup(corpus, question.text, question.passages)
        text = rag_prompt(question.text, outcome.cited)
    messages = [Message("system", question.system)] if question.system else []
    outcome.prompt_ids = await client.tokenize(model, [*messages, Message("user", text)])
    async for event in client.generate(model, outcome.prompt_ids, question.sampling, outcome):
        logprobs.extend(event.logprobs)
        if not options.json:
            sys.stdout.write(event.text)
            sys.stdout.flush()
    if not options.json:
        sys.stdout.write("\n")
        sys.stdout.flush()
    return outcome


def _user(session: Session) -> Signer | None:
    try:
        return session.keychain.signer_for(role_identity(session.config, "user"))
    except MissingKey:
        return None


def trace_line(what: str, name: Name, arrival: Arrival | None) -> None:
    """One line of --trace."""
    arrow = {"interest": "->", "data": "<-", "nack": "<! Nack"}[what]
    where = ""
    if arrival is not None:
        where = " (Content Store)" if arrival.from_content_store else ""
        where += " (congestion)" if arrival.marked else ""
    print(f"{arrow} {ndn.to_uri(name)}{where}", file=sys.stderr)
