"""Items of generators, and values of answers: by our own rules here, by code of others in a process beside ours.

Owns: which scorer runs where, and how long one in another process may take. Must not know: how anything is asked.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from ndn_infer.errors import BadRecord, EngineUnavailable, UsageError
from ndn_infer.evidence.json_fields import JsonObject
from ndn_infer.evidence.scorers import OF_GENERATORS, REGEX, score_text
from ndn_infer.evidence.suite import MAX_ITEMS, MAX_SUITE_BYTES, Generator, Item, Suite, items_digest

JOB_S: Final = 300.0
PATTERNS_S: Final = 20.0
"""For all patterns of a run: one that takes longer takes for ever."""


async def items_of(suite: Suite) -> tuple[Item, ...]:
    """All items. Those of a generator are made here, and are what the suite says they are. Raises EngineUnavailable
    where its package is not installed, UsageError where another version of it makes other items."""
    if suite.generator is None:
        return suite.items
    made, items = await generated(suite.generator)
    if made.items != suite.generator.items:
        theirs, ours = suite.generator, made
        raise UsageError(
            f"{theirs.package} {ours.version} makes other items than those of the suite (version {theirs.version})",
            hint=f"pip install {theirs.package}=={theirs.version}",
        )
    return items


async def generated(wanted: Generator) -> tuple[Generator, tuple[Item, ...]]:
    """The items that a generator makes here, and the generator with version and digests as they are here."""
    found = JsonObject.of(await _run({"job": "generate", **asdict(wanted)}), "items")
    items = tuple(Item.read(one, place) for place, one in enumerate(found.objects("items", MAX_ITEMS)))
    version, files = found.text("version", 64), found.digest("files")
    return replace(wanted, version=version, files=files, items=items_digest(items)), items


async def values_of(suite: Suite, items: Sequence[Item], texts: Sequence[str]) -> list[float]:
    """What each text is worth as the answer to the item at its place. Not for choices, whose value the asking gives.
    Raises as items_of, and UsageError for a pattern that is none or takes too long."""
    scorer = suite.scorer
    if scorer.id == OF_GENERATORS:
        assert suite.generator is not None
        answers: list[Any] = [[int(item.id), text] for item, text in zip(items, texts, strict=True)]
        return _values(await _run({"job": "score", **asdict(suite.generator), "answers": answers}), len(items))
    if scorer.id == REGEX:
        answers = [[list(item.targets), text] for item, text in zip(items, texts, strict=True)]
        job = {"job": "match", "case": scorer.flag("case"), "answers": answers}
        return _values(await _run(job, PATTERNS_S), len(items))
    return [score_text(scorer, item.targets, text) for item, text in zip(items, texts, strict=True)]


def _values(found: Mapping[str, Any], count: int) -> list[float]:
    values = found.get("values")
    if not isinstance(values, list) or len(values) != count:
        raise BadRecord(f"a scorer gave no {count} values")
    return [float(value) for value in values]


async def _run(job: Mapping[str, Any], limit_s: float = JOB_S) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ndn_infer.evidence.live.worker", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=MAX_SUITE_BYTES,
    )  # fmt: skip
    try:
        async with asyncio.timeout(limit_s):
            out, said = await process.communicate(json.dumps(job).encode())
    except TimeoutError:
        raise UsageError(
            f"the scorer took more than {limit_s:g} s", hint="a pattern of the suite may never end on some texts"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    words = said.decode("utf-8", "replace").strip().splitlines()
    if process.returncode == 2 and words:
        if "not installed" in words[-1]:
            raise EngineUnavailable(words[-1], hint="pip install 'ndn-infer[eval]'")
        raise UsageError(words[-1])
    if process.returncode:
        raise UsageError(f"the scorer's process ended with status {process.returncode}: {' '.join(words[-1:])[:300]}")
    found: dict[str, Any] = json.loads(out)
    return found
