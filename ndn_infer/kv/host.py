"""What KV needs of the process it runs in.

Owns: these two contracts. Must not know: who keeps them (functions.base.Host, functions.engine_host.EngineHost; tests
have others).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ndn_infer.config import Config
from ndn_infer.ndn.name import Name
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.calls.direct import Questions
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.serve import Server

if TYPE_CHECKING:
    import torch


class KvHost(Protocol):
    """The network side of a process."""

    @property
    def net(self) -> Name: ...

    @property
    def config(self) -> Config: ...

    @property
    def server(self) -> Server: ...

    @property
    def fetcher(self) -> Fetcher: ...

    @property
    def caller(self) -> Caller: ...

    @property
    def questions(self) -> Questions: ...

    @property
    def counters(self) -> Counter[str]: ...


class BlockComputer(Protocol):
    """Computes KV of prompts in this process."""

    @property
    def layers(self) -> str:
        """Option engine.kv_layers: auto, on or off."""
        ...

    @property
    def known_as(self) -> frozenset[Name]:
        """Identities of all functions that compute with the same engine, behind whatever face."""
        ...

    def prefilled(self) -> tuple[int, float]:
        """(tokens, seconds) of all prompts computed so far."""
        ...

    async def prefill(
        self, ids: Sequence[int], prefix: Sequence[torch.Tensor], on_block: Callable[[int, torch.Tensor], None], *,
        prompt_tokens: int = 0, cache_salt: str = "",
    ) -> object:  # fmt: skip
        """KV of all full blocks of `ids` after `prefix`; `on_block(index, block)` as each becomes ready. Raises
        NdnInferError."""
        ...


@dataclass(frozen=True, slots=True)
class KvAsker:
    """On whose behalf KV of a prompt is loaded."""

    signer: Signer
    """Signs the token blocks that a prefill producer pulls."""
    hint: Name
    """A routable prefix of this process: where those are."""
    holders: tuple[Name, ...] = ()
    """Identities that may hold the blocks, asked before all others."""
