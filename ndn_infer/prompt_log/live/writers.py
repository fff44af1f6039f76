"""The writers of a process: one for each policy that names it.

Owns: which writer a call's domain has, made before the first call. Must not know: what is recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from ndn_infer import files, ndn
from ndn_infer.errors import StorageError
from ndn_infer.node.node import Node
from ndn_infer.prompt_log.live.client import LogClient
from ndn_infer.prompt_log.live.spool import Spool
from ndn_infer.prompt_log.live.writer import LogWriter
from ndn_infer.prompt_log.policy import DECODE, PRODUCERS, LogPolicy, policies_of, policy_for
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.calls.direct import Direct
from ndn_infer.transport.calls.inputs import Inputs

MOST_PROCESSES = 64
"""Of one kind on one machine, with spools of their own."""
GENERATE = "generate"


@dataclass(slots=True)
class LogWriters:
    """`kind`: gateway, or decode, which stands for any producer. Commands are signed by `signer`; large entries are
    published by `inputs`. `start` comes before anything else."""

    node: Node
    kind: str
    signer: Signer
    inputs: Inputs
    _writers: dict[LogPolicy, LogWriter] = field(default_factory=dict)
    _locks: list[int] = field(default_factory=list)

    @property
    def policies(self) -> tuple[LogPolicy, ...]:
        return policies_of(self.node.config.recording.policies)

    @property
    def by(self) -> str:
        """Who writes (URI)."""
        return ndn.to_uri(self.signer.identity)

    async def start(self) -> None:
        """Open the spools of all policies that this process may write for, and send what an earlier one left there.
        Raises StorageError."""
        mine = {self.kind, PRODUCERS} if self.kind == DECODE else {self.kind}
        for policy in dict.fromkeys(self.policies):
            if policy.writer in mine:
                spool = await asyncio.to_thread(self._spool, policy)
                client = LogClient(
                    Direct(self.node.endpoint, self.node.validator), policy.log, self.signer, self.inputs
                )  # fmt: skip
                self._writers[policy] = LogWriter(policy, client, spool, self.node.config.recording.wait_s)
        for writer in self._writers.values():
            writer.go_on()

    def writer(self, domain: str, function: str = GENERATE) -> LogWriter | None:
        """For calls of this function in the domain of this label; None where they are not recorded by this kind."""
        policy = policy_for(self.policies, domain, *self._as(function))
        return self._writers[policy] if policy is not None else None

    async def close(self) -> None:
        for writer in self._writers.values():
            await writer.close()
        for descriptor in self._locks:
            os.close(descriptor)

    def _as(self, function: str) -> tuple[str, ...]:
        """The writers, as policies call them, that this process is for calls of this function."""
        own = (self.kind,) if function == GENERATE else ()
        wanted = self.node.config.recording.functions
        every = self.kind == DECODE and ("*" in wanted or function in wanted)
        return (*own, PRODUCERS) if every else own

    def _spool(self, policy: LogPolicy) -> Spool:
        """Raises StorageError."""
        return Spool(self._folder(policy), self.node.config.recording.spool_mib << 20)

    def _folder(self, policy: LogPolicy) -> Path:
        """One that no other process has; what waits in it from an earlier one is ours now. Raises StorageError."""
        name = f"{self.kind}-{ndn.to_uri(policy.log).strip('/').replace('/', '+')}"
        above = self.node.config.keys_dir.parent / "log-spool"
        try:
            above.mkdir(parents=True, exist_ok=True, mode=0o700)
            for number in range(MOST_PROCESSES):
                with contextlib.suppress(BlockingIOError):
                    self._locks.append(files.lock(above / f"{name}.{number}.lock", wait=False))
                    return above / f"{name}.{number}"
        except OSError as error:
            raise StorageError(f"cannot use {above}: {error.strerror}") from error
        raise StorageError(f"{MOST_PROCESSES} processes write to {ndn.to_uri(policy.log)} on this machine")
