"""Coroutines side by side, of which each is needed.

Owns: that none goes on when another one failed. Must not know: what they do. Where some may fail,
`asyncio.gather(..., return_exceptions=True)` is the tool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar, cast

T = TypeVar("T")
U = TypeVar("U")


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each gives, in their order. Raises the error of the first that fails, when the others have ended, too:
    `asyncio.gather` leaves them running."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """As `together`, of two that give different things."""
    first, second = await together((cast("Coroutine[Any, Any, object]", one), other))
    return cast("T", first), cast("U", second)
