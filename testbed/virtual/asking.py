"""One question in virtual time: a consumer that joins, asks, reads and leaves, as `ndn-infer ask` does.

Owns: the consumer's process and its row. Must not know: worlds, producers.
"""

from __future__ import annotations

from collections.abc import Callable

from ndn_infer.client import Client
from ndn_infer.errors import NdnInferError
from ndn_infer.testbed.reading import Reading
from ndn_infer.testbed.virtual.machine import Application, VirtualNode
from ndn_infer.testbed.world import AnswerProgress, Prompt, PromptOutcome


async def read_answer(
    node: VirtualNode, what: Prompt, progress: AnswerProgress | None, now: Callable[[], float]
) -> PromptOutcome:
    """The row of one question. Cancelled, the consumer leaves as one that was interrupted."""
    application = node.application("ask")
    return await application.run(_consumer(node, application, what, progress or AnswerProgress(), now))


async def _consumer(
    node: VirtualNode, application: Application, what: Prompt, progress: AnswerProgress, now: Callable[[], float]
) -> PromptOutcome:
    reading = Reading(node.name, node.keychain.net, now, progress.came, began=now())
    try:
        async with await node.join(application, choose=what.choose) as joined, Client(joined) as client:
            await reading.read(client, joined.config.ask.model, what)
    except NdnInferError as error:
        reading.failed(error)
    finally:
        progress.ended()
        application.kill()
    return reading.row()
