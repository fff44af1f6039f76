"""Whether a grammar can be obeyed, found out before anything is computed for it.

Owns: trials of grammars in processes of their own (grammar_trial.py), their number and time, and what is known
of grammars that were tried. Must not know: tokens, streams, what an answer is.

A hostile grammar costs its asker's place in the queue of trials, some seconds of one core, and nothing of the process
that answers others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import OrderedDict
from typing import Final

from ndn_infer import records
from ndn_infer.engine.grammar import Grammars
from ndn_infer.errors import Busy, CallError, EngineUnavailable, UsageError
from ndn_infer.records.grammar import BAD_GRAMMAR, Grammar

log = logging.getLogger(__name__)

AT_ONCE: Final = 2
MOST_WAITING: Final = 32
MOST_S: Final = 15.0
"""Of one trial by the clock; its processor time is bounded by itself."""
KNOWN: Final = 1024
"""Grammars of which the outcome is remembered."""


class GrammarCheck:
    """Of one process; grammars of several models are tried alike."""

    def __init__(self) -> None:
        self._outcomes: OrderedDict[Grammar, str] = OrderedDict()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def ready(self, grammar: Grammar | None, grammars: Grammars | None) -> None:
        """Raises CallError with the code bad-grammar, and what is wrong in its words; Busy where too many wait. After
        that the grammar is compiled in `grammars`."""
        if grammar is None:
            return
        if grammars is None:
            raise CallError("this producer takes no grammars", code=BAD_GRAMMAR)
        try:
            grammar.check()
            await self._try(grammar)
            await asyncio.to_thread(grammars.compile, grammar)
        except (UsageError, EngineUnavailable) as error:
            raise CallError(str(error), code=BAD_GRAMMAR, hint=error.hint) from error

    async def _try(self, grammar: Grammar) -> None:
        """Raises UsageError."""
        words = self._outcomes.get(grammar)
        if words is None:
            if self._waiting >= MOST_WAITING:
                raise Busy("too many grammars wait to be compiled; try again later")
            self._waiting += 1
            try:
                async with self._places:
                    words = self._outcomes.get(grammar)
                    words = await _outcome(grammar) if words is None else words
            finally:
                self._waiting -= 1
            self._outcomes[grammar] = words
            while len(self._outcomes) > KNOWN:
                self._outcomes.popitem(last=False)
        self._outcomes.move_to_end(grammar)
        if words:
            raise UsageError(words)


async def _outcome(grammar: Grammar) -> str:
    """What a trial in a process of its own says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ndn_infer.functions.grammar_trial", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(records.encode(grammar)), MOST_S)
    except TimeoutError:
        out = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        log.warning("a grammar of the kind %s was given up: its trial ended with %s", grammar.kind, process.returncode)
        return "the grammar takes too long, or too much memory, to compile"
    return str(json.loads(out))
