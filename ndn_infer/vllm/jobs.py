"""What the scheduler's half of the connector tells the workers' halves, step by step.

Owns: these records. They travel inside one vLLM instance only, by its own means. Pure. Must not know: vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ndn_infer.ndn.name import Name


@dataclass(frozen=True, slots=True)
class SavedBlock:
    """A full block of the paged cache that is to be published: its chain value in a domain, and its number."""

    domain: str
    value: bytes
    block: int


@dataclass(frozen=True, slots=True)
class Held:
    """Where a block of one rank is to be had: the metadata packet that was found, b"" for none, and claims of holders
    (identity, version). The worker verifies both again."""

    metadata: bytes = b""
    claims: tuple[tuple[Name, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedBlock:
    """A block to fetch: `held` has one entry for each rank."""

    value: bytes
    block: int
    held: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class LoadJob:
    """Blocks of one request in one domain; with `now` the step waits for them."""

    request: str
    domain: str
    blocks: tuple[LoadedBlock, ...]
    now: bool


@dataclass(slots=True)
class StepJobs:
    """Of one step. `before` are blocks that were complete before it, and may be overwritten by it; `after` will be
    complete after it."""

    loads: list[LoadJob] = field(default_factory=list)
    before: list[SavedBlock] = field(default_factory=list)
    after: list[SavedBlock] = field(default_factory=list)
