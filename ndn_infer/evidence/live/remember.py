"""After an answer: the record of what was asked is made and kept, and what the answer rests on is collected.

Owns: when that is done, and that an answer never fails by it. Must not know: terminals, files of others.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from ndn_infer.client import Answer, Client
from ndn_infer.client.citing import CheckedCitations
from ndn_infer.errors import MissingKey, NdnInferError
from ndn_infer.evidence.bundle import EvidenceBundle
from ndn_infer.evidence.live.collect import Collector
from ndn_infer.evidence.live.contexts import MadeContext, context_of, note_of
from ndn_infer.evidence.live.kept import KeptContexts
from ndn_infer.namespace import evidence_prefix
from ndn_infer.node.keys import USER
from ndn_infer.node.node import Node

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 32


async def introduce(node: Node, client: Client, answer: Answer) -> MadeContext | None:
    """Where ask.context is "named": make the context record of an answer before it is asked for, and serve it for as
    long as `client` is open; the call names it. None where there is none. Never raises for what is wrong with it."""
    if node.config.ask.context != "named" or node.config.ask.records == "off":
        return None
    try:
        signer = node.signer_as(USER)
        made = await context_of(node, signer, answer)
        if made is not None:
            await client.serve(evidence_prefix(signer.identity), made.object)
            answer.context = made.uri
        return made
    except NdnInferError as error:
        log.warning("what is asked has no record: %s", error)
        return None


async def remember(
    node: Node, answer: Answer, made: MadeContext | None = None, checked: CheckedCitations | None = None
) -> MadeContext | None:  # fmt: skip
    """Make the context record of an answer, unless it was `made` before, and keep it on this machine, as ask.context
    says. None where there is none: it is off, this machine has no key of the role `user`, or the prompt was not made of
    text. `checked`: the check of its citations, which is kept beside it. Never raises for what is wrong with it."""
    if "off" in (node.config.ask.context, node.config.ask.records) or not answer.streams:
        return None
    try:
        made = made or await context_of(node, node.signer_as(USER), answer)
        if made is not None:
            also = (*made.also, checked.wire) if checked is not None and checked.wire else made.also
            made = replace(made, note=note_of(answer, made.uri), also=also)
            await asyncio.to_thread(KeptContexts.of(node.config).keep, made)
        return made
    except MissingKey as error:
        log.info("no record of what was asked: %s", error)
    except NdnInferError as error:
        log.warning("what was asked is not remembered: %s", error)
    return None


async def evidence_of(node: Node, answer: Answer, made: MadeContext | None) -> EvidenceBundle:
    """All that an answer rests on, as far as it can be had now. `made`: its context record."""
    note = note_of(answer, made.uri if made is not None else "")
    known = made.wires if made is not None else ()
    return await Collector.of(node, answer.conversation.caller, note, known).collect()


async def remember_whole(node: Node, bundle: EvidenceBundle) -> None:
    """Keep all that an answer rests on beside the record of what was asked: for a network that ends now. Never raises
    for what is wrong with it."""
    try:
        await asyncio.to_thread(KeptContexts.of(node.config).complete, bundle)
    except NdnInferError as error:
        log.warning("what the answer rests on is not kept: %s", error)


class Remembering:
    """Remembers answers of a program that asks much, beside its work: of those that end while MOST_AT_ONCE are being
    remembered, nothing is kept."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tasks: set[asyncio.Task[object]] = set()
        self.left_out = 0

    def over(self, answer: Answer) -> None:
        """An answer that nobody reads on; one that did not end is not remembered."""
        if not answer.finish:
            return
        if len(self._tasks) >= MOST_AT_ONCE:
            self.left_out += 1
            return
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(remember(self._node, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Those that are being remembered are."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
