"""eval run, reproduce and serve: what needs the network.

Owns: the network that is asked, progress, where the record goes. Must not know: how items are asked and scored.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import AsyncExitStack

from ndn_infer import ndn
from ndn_infer.apps import eval_words as words
from ndn_infer.apps.eval_suites import suite_of, suite_of_score
from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.console.progress import ProgressLine
from ndn_infer.console.signals import stop_on_signals
from ndn_infer.evidence.live import vouched as signed
from ndn_infer.evidence.live.evaluate import HowToRun, SuiteRun
from ndn_infer.evidence.live.evaluations import evaluate, matching, repeat, score_in, vouch_score
from ndn_infer.evidence.live.run_journal import RunJournal
from ndn_infer.evidence.live.scoring import items_of
from ndn_infer.evidence.live.shelf import SCORE, SUITE, Shelf
from ndn_infer.evidence.live.vouched import Vouched
from ndn_infer.evidence.score import Score
from ndn_infer.functions.registry import ROLES
from ndn_infer.library.joining import Embedded, WantedNetwork, join
from ndn_infer.local.network import CommonFlags
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.security.keychain import Keychain

UNLIKE = 4
"""Exit status: something could not be verified."""


def run(options: argparse.Namespace, config: Config) -> int:
    keychain = Keychain.open(config.keys_dir) if options.no_embedded else ensure_keys(config, ROLES)
    return asyncio.run(_main(_Evaluating(options, config, keychain)))


async def _main(evaluating: _Evaluating) -> int:
    """Race the work against a signal: what is answered is kept."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    work = asyncio.ensure_future(evaluating.run(stop))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not work.done() and not evaluating.serves:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        print("\ninterrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    return await work


class _Evaluating:
    """One command."""

    def __init__(self, options: argparse.Namespace, config: Config, keychain: Keychain) -> None:
        self._options = options
        self._config = config
        self._keychain = keychain
        self.serves = options.action == "serve"

    async def run(self, stop: asyncio.Event) -> int:
        async with AsyncExitStack() as ends:
            if self.serves:
                return await self._serve(stop, ends)
            return await (self._reproduce if self._options.action == "reproduce" else self._run)(ends)

    # ------------------------------------------------------------ actions

    async def _run(self, ends: AsyncExitStack) -> int:
        options = self._options
        node, client = await self._join(ends)
        shelf = Shelf(self._config, self._keychain, node)
        suite, record = await suite_of(options, self._config, shelf, options.names[0])
        model = await client.conversation().resolve_model(await self._model())
        items = (await items_of(suite))[: options.limit]
        how = self._how()
        marks = (suite.digest, model.digest, str(how.again), str(how.at), str(len(items)))
        journal = RunJournal.of(shelf.folder / "runs", *marks)
        run = SuiteRun(client, suite, items, model, how, journal)
        score = await self._watched(run, record)
        made = vouch_score(node.net, node.signer_as("user"), score)
        path = shelf.keep(SCORE, made, (record,))
        shelf.keep(SUITE, record)
        journal.over(score.failed)
        kept = await self._publish(node, client, shelf, made, record)
        if options.json:
            print(json.dumps(words.score_json(score, made) | {"file": str(path), "kept": not kept}, ensure_ascii=False))
        else:
            print("\n".join(words.score_lines(score, made)))
            self._say(f"in {path}")
            self._say("no repo keeps it: others get it from a file (-o) or while 'eval serve' runs" if kept
                      else "a repo keeps it")  # fmt: skip
        return 0

    async def _reproduce(self, ends: AsyncExitStack) -> int:
        """In the engine class of the score, and no other."""
        options = self._options
        node, client = await self._join(ends)
        shelf = Shelf(self._config, self._keychain, node)
        there = await shelf.find(options.names[0], SCORE)
        theirs = score_in(there[0])
        suite = await suite_of_score(options, self._config, shelf, there)
        items = matching(suite, await items_of(suite), theirs)
        conversation = client.conversation()
        model = await conversation.resolve_model(theirs.model)
        conversation.engines.only(model.digest, theirs.engine)
        how = self._how()
        journal = RunJournal.of(shelf.folder / "runs", there[0].name, str(how.again), str(how.at))
        run = SuiteRun(client, suite, items, model, how, journal)
        with ProgressLine(quiet=options.quiet or options.json) as progress:
            run.on_item = lambda done, total: progress(f"{suite.name} again", done, total)
            repeated = await repeat(run, theirs)
        journal.over(repeated.ours.failed)
        if options.json:
            print(json.dumps(words.repeated_json(repeated, there[0]), ensure_ascii=False))
        else:
            print("\n".join(words.repeated_lines(repeated, there[0])))
        return 0 if repeated.found.identical == repeated.found.n and not repeated.misjudged else UNLIKE

    async def _serve(self, stop: asyncio.Event, ends: AsyncExitStack) -> int:
        node = await ends.enter_async_context(await Node.join(self._config, self._keychain))
        client = await ends.enter_async_context(Client(node))
        shelf, count = Shelf(self._config, self._keychain, node), 0
        ours = node.signer_as("user").identity
        for topic in (SUITE, SCORE):
            for path in shelf.files(topic):
                record = (await shelf.read(path, topic))[0]
                if record.signer == ours:
                    await client.publish(ndn.from_uri(record.name), record.wire, freshness_ms=signed.FRESHNESS_MS)
                    count += 1
                    print(f"{topic} {record.name}", flush=True)
        print(f"READY {count} records of {ndn.to_uri(ours)}", flush=True)
        await stop.wait()
        return 0

    # ------------------------------------------------------------ parts

    async def _join(self, ends: AsyncExitStack) -> tuple[Node, Client]:
        options = self._options
        when: Embedded = "always" if options.embedded else "never" if options.no_embedded else "missing"
        flags = CommonFlags(options.config, options.settings, options.verbose)
        quiet = options.quiet or options.json
        wanted = WantedNetwork(await self._model(), when, flags=flags, quiet=quiet, news=self._say)
        node = (await join(self._config, self._keychain, wanted, ends)).node
        return node, await ends.enter_async_context(Client(node))

    async def _model(self) -> str:
        from ndn_infer.local.prepare import network_name

        wanted = self._options.model or self._config.ask.model
        return await asyncio.to_thread(network_name, self._config, wanted, quiet=self._options.json)

    def _how(self) -> HowToRun:
        at = tuple(ndn.from_uri(uri) for uri in self._options.at)
        return HowToRun(self._options.concurrency, self._options.recompute, at)

    async def _watched(self, run: SuiteRun, record: Vouched) -> Score:
        with ProgressLine(quiet=self._options.quiet or self._options.json) as progress:
            run.on_item = lambda done, total: progress(run.suite.name, done, total)
            return await evaluate(run, record.name)

    async def _publish(self, node: Node, client: Client, shelf: Shelf, made: Vouched, record: Vouched) -> str:
        """Why no repo keeps it, "" where one does."""
        if self._options.output is not None:
            shelf.write(self._options.output, (made, record))
        if record.signer == made.signer and (why := await signed.publish(node, client, record, self._options.repo)):
            return why
        return await signed.publish(node, client, made, self._options.repo)

    def _say(self, text: str) -> None:
        if not self._options.quiet and not self._options.json:
            print(f"  {text}", file=sys.stderr, flush=True)
