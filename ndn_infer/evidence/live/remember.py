"""After an answer: the record of what was asked is made and kept, and what the answer rests on is collected.

Owns: when that is done, and that an answer never fails by it. Must not know: terminals, files of others.
"""

from __future__ import annotations

import asyncio
import logging

from ndn_infer.client import Answer
from ndn_infer.errors import MissingKey, NdnInferError
from ndn_infer.evidence.bundle import BundleNote, EvidenceBundle
from ndn_infer.evidence.live.collect import Collector
from ndn_infer.evidence.live.contexts import MadeContext, context_of
from ndn_infer.evidence.live.kept import KeptContexts
from ndn_infer.ndn import to_uri
from ndn_infer.node.keys import USER
from ndn_infer.node.node import Node

log = logging.getLogger(__name__)


async def remember(node: Node, answer: Answer) -> MadeContext | None:
    """Make the context record of an answer, and keep it on this machine, as ask.context says. None where there is none:
    it is off, this machine has no key of the role `user`, or the prompt was not made of text. Never raises for what is
    wrong with it."""
    if node.config.ask.context == "off" or not node.config.ask.records:
        return None
    try:
        made = await context_of(node, node.signer_as(USER), answer)
        if made is not None:
            await asyncio.to_thread(KeptContexts.of(node.config).keep, made)
        return made
    except MissingKey as error:
        log.info("no record of what was asked: %s", error)
    except NdnInferError as error:
        log.warning("what was asked is not remembered: %s", error)
    return None


async def evidence_of(node: Node, answer: Answer, made: MadeContext | None) -> EvidenceBundle:
    """All that an answer rests on, as far as it can be had now. `made`: its context record."""
    note = made.note if made is not None else BundleNote(answer.stream_name, producer=to_uri(answer.by))
    known = made.wires if made is not None else ()
    return await Collector.of(node, answer.conversation.caller, note, known).collect()
