"""Ask a question and stream the answer; every byte of it is named, signed and verified.

Uses a running network when there is one (an `ndn-infer up`, or the forwarder that the NDN client configuration names),
otherwise brings up an embedded one for the duration. Reads the prompt from standard input when it is '-' or when there
is none and something is piped in.

ndn-infer ask "What is the capital of France?"
ndn-infer ask --rag ./notes "When do we meet?"     from a folder of texts, or the alias of a served corpus
ndn-infer ask --json-schema person.json "Describe Ada Lovelace."     an answer that the schema allows
cat question.txt | ndn-infer ask --quiet > answer.txt
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ndn_infer.apps.answer_shape import add_shape_arguments
from ndn_infer.apps.explain import write_file
from ndn_infer.apps.question import POLICY_HELP, AskOptions, add_sampling_arguments, read_question
from ndn_infer.apps.question_talk import Talk
from ndn_infer.apps.summary import as_json, print_summary
from ndn_infer.apps.watching import PacketTrace, Waiting
from ndn_infer.client import Answer, Client, Conversation, rag_prompt
from ndn_infer.client.citing import CheckedCitations, checked_citations
from ndn_infer.config import Config
from ndn_infer.console.signals import stop_on_signals
from ndn_infer.errors import PolicyError, UsageError
from ndn_infer.evidence.live.contexts import MadeContext
from ndn_infer.evidence.live.remember import evidence_of, introduce, remember, remember_whole
from ndn_infer.functions.registry import ROLES
from ndn_infer.library import retrieval
from ndn_infer.library.joining import Embedded, WantedNetwork, join
from ndn_infer.local.network import CommonFlags, ServedParts, helpers
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.records import CorpusRecord, Message, TokenLogprobs
from ndn_infer.security.keychain import Keychain

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", help="the question; '-' reads it from standard input")
    parser.add_argument("--model", default="", help="alias, Hugging Face id, folder, .gguf file or digest")
    add_sampling_arguments(parser)
    add_shape_arguments(parser)
    parser.add_argument("--system", help="system prompt")
    parser.add_argument(
        "--rag", action="append", default=[], metavar="CORPUS",
        help="answer from documents: a folder, or the alias of a corpus; repeat it for several",
    )  # fmt: skip
    parser.add_argument("--passages", type=int, help="passages that --rag puts into the prompt")
    parser.add_argument("--min-score", type=float, help="--rag: skip passages with a lower score (ask.min_score)")
    parser.add_argument("--domain", default="", metavar="NAME", help="ask privately, in a tenant domain")
    parser.add_argument("--continue", dest="go_on", default="", metavar="NAME",
                        help="ask in a saved conversation, and save what it is then; a new one where a label of yours "
                        "has none")  # fmt: skip
    parser.add_argument("--branch", default="", metavar="LABEL", help="--continue: save it under another label")
    parser.add_argument("--policy", metavar="POLICY", help=POLICY_HELP)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--trace", action="store_true", help="print every Interest and Data by name, then the answer")
    parser.add_argument("--trace-file", type=Path, metavar="FILE", help="write every Interest and Data by name to FILE")
    parser.add_argument("--quiet", action="store_true", help="the answer alone, no summary")
    parser.add_argument(
        "--evidence", type=Path, metavar="FILE", help="write all that the answer rests on to FILE, for 'explain'"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--embedded", action="store_true", help="always bring up an embedded network")
    group.add_argument("--no-embedded", action="store_true", help="fail when no network is running")


def run(options: argparse.Namespace, config: Config) -> int:
    question = read_question(options, config)
    keychain = Keychain.open(config.keys_dir) if options.no_embedded else ensure_keys(config, ROLES)
    return asyncio.run(_main(_Asking(options, config, question, keychain)))


async def _main(asking: _Asking) -> int:
    """Race the work against a signal, so that Ctrl-C leaves nothing behind."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    work = asyncio.ensure_future(asking.ask())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not work.done():
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        print("\ninterrupted", file=sys.stderr)
        return 130
    return await work


class _Asking:
    """One question: the network it is asked in, the answer, what is printed."""

    def __init__(self, options: argparse.Namespace, config: Config, question: AskOptions, keychain: Keychain) -> None:
        self._options = options
        self._config = config
        self._question = question
        self._keychain = keychain
        self._say = not (options.quiet or options.json)
        self._policy = config.ask.policy if options.policy is None else options.policy
        self._waiting = Waiting(lines=options.verbose > 0, quiet=options.quiet)
        self._logprobs: list[TokenLogprobs] = []
        self._checked: CheckedCitations | None = None

    async def ask(self) -> int:
        async with AsyncExitStack() as ends:
            model = await self._model_name()
            corpus = None
            if self._question.folder is not None:
                corpus = await asyncio.to_thread(
                    retrieval.corpus_of, self._question.folder, self._config, quiet=not self._say
                )
            joined = await join(self._config, self._keychain, self._wanted(model), ends)
            node, served = joined.node, not joined.own
            client = await ends.enter_async_context(Client(node))
            if self._policy:
                await client.demand(self._policy)
            conversation = client.conversation(self._question.domain)
            if served and corpus is not None:
                await self._serve(corpus, conversation, node, ends)
            self._watch(node, ends)
            talk = None
            if self._options.go_on:
                talk = await Talk.begin(self._options, self._question, client, node, model)
                answer, made = talk.answer, None
            else:
                answer, made = await self._asked(conversation, model, corpus), None
            if self._question.sampling.max_tokens and not answer.finish:
                made = await introduce(node, client, answer)
                await self._read(answer)
                self._checked = await checked_citations(answer, self._question.text)
            self._print(answer, node)
            await self._remember(answer, node, made, ends=joined.own)
            if talk is not None:
                for line in await talk.keep():
                    self._news(line)
            return self._told_stop(answer)

    def _told_stop(self, answer: Answer) -> int:
        """The status; in words why a policy stopped the answer, if it did."""
        if (stop := answer.stopped) is None:
            return 0
        print(f"ndn-infer: the answer was stopped: {stop.words}", file=sys.stderr)
        return PolicyError.exit_code

    # ------------------------------------------------------------ the network

    async def _model_name(self) -> str:
        from ndn_infer.local.prepare import network_name

        return await asyncio.to_thread(network_name, self._config, self._question.model, quiet=not self._say)

    def _wanted(self, model: str) -> WantedNetwork:
        options, question = self._options, self._question
        when: Embedded = "always" if options.embedded else "never" if options.no_embedded else "missing"
        flags = CommonFlags(options.config, options.settings, options.verbose)
        return WantedNetwork(
            model, when, question.folder, question.corpora[:1], question.domain_name, self._policy, flags,
            quiet=not self._say, news=self._news,
        )  # fmt: skip

    async def _serve(self, corpus: CorpusRecord, conversation: Conversation, node: Node, ends: AsyncExitStack) -> None:
        """The folder in the running network, for as long as it is asked."""
        assert self._question.folder is not None
        flags, folder = CommonFlags(self._options.config, self._options.settings), self._question.folder
        joined = await retrieval.served(
            corpus, folder, conversation, self._news,
            lambda functions: helpers(self._served(functions, folder), flags, node.uri),
        )  # fmt: skip
        if joined is not None:
            ends.push_async_callback(joined.stop)

    def _served(self, functions: Sequence[str], folder: Path) -> ServedParts:
        ask, domain = self._config.ask, self._question.domain_name
        return ServedParts(functions, [ask.model], ask.embedder, folder, corpus_domain=domain)

    # ------------------------------------------------------------ the answer

    async def _asked(self, conversation: Conversation, alias: str, corpus: CorpusRecord | None) -> Answer:
        """The answer, to be read; of one that needs no model, what it says."""
        question = self._question
        model = await conversation.resolve_model(alias)
        log.info("%s is model %s (%s)", alias, model.digest, model.architecture)
        answer, text = conversation.generate(model, (), question.sampling), question.text
        corpora = await retrieval.resolved(conversation, corpus, question.corpora)
        if corpora:
            wanted = retrieval.WantedPassages(text, question.passages, question.min_score)
            found = await retrieval.look_up(conversation, corpora, wanted, self._news)
            names = ", ".join(one.alias for one in corpora)
            log.info("%d passages of %s are near enough, best score %.3f", len(found.cited), names, found.best)
            if not found.cited:
                return self._not_found(answer, found)
            answer.cited, text = found.cited, rag_prompt(text, found.cited)
        messages = [Message("system", question.system)] if question.system else []
        answer.prompt_ids = await conversation.tokenize(model, [*messages, Message("user", text)])
        log.info("the prompt has %d tokens", len(answer.prompt_ids))
        return answer

    async def _read(self, answer: Answer) -> None:
        answer.on_progress = self._waiting
        try:
            async with answer:
                async for event in answer:
                    self._waiting.over()
                    self._logprobs.extend(event.logprobs)
                    if self._streams:
                        sys.stdout.write(event.text)
                        sys.stdout.flush()
        finally:
            self._waiting.over()
        log.info("the answer came as %s", answer.stream_name)
        if self._streams:
            sys.stdout.write("\n")
            sys.stdout.flush()

    def _not_found(self, answer: Answer, found: retrieval.Found) -> Answer:
        """Instead of an answer that a model would invent."""
        answer.finish, answer.text = "not-in-documents", retrieval.NOT_FOUND
        if self._streams:
            print(answer.text, flush=True)
        self._news(f"best score {found.best:.2f}, below {self._question.min_score:.2f} (--min-score)")
        return answer

    def _print(self, answer: Answer, node: Node) -> None:
        if self._options.json:
            document = as_json(answer, node.uri, self._checked)
            if self._question.sampling.logprobs:
                document["logprobs"] = logprobs_json(answer.ids, self._logprobs)
            print(json.dumps(document, ensure_ascii=False))
            return
        if not self._streams:
            print(answer.text, flush=True)
        if not self._options.quiet:
            print_summary(answer, node.uri, checked=self._checked, verbose=self._options.verbose)

    async def _remember(self, answer: Answer, node: Node, made: MadeContext | None, *, ends: bool) -> None:
        """What was asked, for `explain`; all that the answer rests on too with --evidence, and where the network ends
        with this command. Raises StorageError."""
        made = await remember(node, answer, made, self._checked)
        file = self._options.evidence
        if file is not None and not answer.stream_name:
            raise UsageError("--evidence: no model was asked, so there is no answer to explain")
        if file is None and (made is None or not ends):
            return
        bundle = await evidence_of(node, answer, made)
        if made is not None:
            await remember_whole(node, bundle)
        if file is None:
            return
        write_file(file, bundle.encode())
        self._news(f"evidence: {len(bundle.packets)} packets in {file}; ndn-infer explain --bundle {file}")

    # ------------------------------------------------------------ beside it

    @property
    def _streams(self) -> bool:
        """Whether text is printed as it arrives: not among the lines of a trace, which share the terminal with it."""
        return not self._options.json and not self._traces

    @property
    def _traces(self) -> bool:
        return bool(self._options.trace or self._options.verbose > 1)

    def _watch(self, node: Node, ends: AsyncExitStack) -> None:
        if self._traces or self._options.trace_file is not None:
            trace = PacketTrace(self._options.trace_file)
            ends.callback(trace.close)
            node.endpoint.trace = trace

    def _news(self, text: str) -> None:
        if self._say:
            print(f"  {text}", file=sys.stderr, flush=True)


def logprobs_json(ids: Sequence[int], logprobs: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
    """One entry a token: its text and log probability, and the most likely tokens at its place. A token may be part of
    a character; that shows as U+FFFD."""
    return [
        {"id": token, "text": told.text.decode("utf-8", "replace"), "logprob": told.logprob,
         "top": [{"id": other, "text": text.decode("utf-8", "replace"), "logprob": value}
                 for (other, value), text in zip(told.top, told.top_text, strict=False)]}
        for token, told in zip(ids, logprobs, strict=False)
    ]  # fmt: skip
