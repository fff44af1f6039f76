"""Load that a scenario puts on a world: questions at a rate, whoever is still being answered, or many at once.

Owns: when each question begins. Must not know: worlds, answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ndn_infer.testbed.world import Prompt, PromptOutcome, World


async def open_loop(world: World, questions: Iterable[tuple[str, Prompt]], every_s: float) -> list[PromptOutcome]:
    """Ask (node, question) after (node, question), one every `every_s` seconds, without waiting for answers: what is
    slow does not lower the rate. Returns all rows, in the order of asking."""
    running: list[asyncio.Task[PromptOutcome]] = []
    began = world.now()
    async with asyncio.TaskGroup() as group:
        for number, (node, what) in enumerate(questions):
            await world.sleep(max(0.0, began + number * every_s - world.now()))
            running.append(group.create_task(world.ask(node, what)))
    return [task.result() for task in running]


async def together(world: World, nodes: Iterable[str], what: Prompt) -> list[PromptOutcome]:
    """The same question at all of these nodes (one named n times asks n times) at once."""
    return list(await asyncio.gather(*(world.ask(node, what) for node in nodes)))
