"""KV blocks of others, fetched by name and computed again.

Owns: which blocks of a prompt and answer are looked at, whose they are, which packets prove that one is wrong. Must not
know: verdicts, answers, how blocks are compared (kv_compare.py).

Blocks are computed from the token ids alone, as a prompt: whoever has the ids, the model and one signed manifest with
one segment checks a proof, wherever the other blocks are. Of a wrong block the ones before it are looked at too: the
first wrong one counts, since a producer that computes after wrong blocks of others signs what follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from ndn_infer import chain, ndn
from ndn_infer.errors import BadRecord, NetworkError, TrustError
from ndn_infer.functions.audit.kv_compare import KvDifference, compare
from ndn_infer.functions.audit.sample import AuditSample
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.kv.codec import BlockFormat, block_bytes, decode_block, encode_block
from ndn_infer.kv.layout import BlockLayout
from ndn_infer.namespace import KvBlock
from ndn_infer.ndn.name import Name
from ndn_infer.security.validator import Validated
from ndn_infer.together import together
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.wire.manifest import SEGMENT_BYTES, ObjectPackets

MAX_BLOCKS: Final = 4096
AT_ONCE: Final = 8
"""Blocks that are fetched together."""
TIMES_LARGER: Final = 4
"""A block of another size is wrong, and looked at up to here."""
MAX_SHOWN: Final = 48
"""Segments of a wrong block in a proof."""


@dataclass(frozen=True, slots=True)
class SignedBlock:
    """A block as somebody published it. `packets` are all of it, verified."""

    index: int
    packets: ObjectPackets
    signed_by: Validated

    @property
    def name(self) -> str:
        return ndn.to_uri(self.packets.manifest.name)


@dataclass(slots=True)
class KvFinding:
    """`looked`: blocks that were found and compared; `missing`: drawn, and had from nobody. `unlike`: equal to what is
    computed here but for last bits. `wrong`: the first one that no honest way gives."""

    blocks: int
    looked: list[SignedBlock] = field(default_factory=list)
    missing: int = 0
    unlike: int = 0
    wrong: SignedBlock | None = None
    difference: KvDifference | None = None
    segments: tuple[int, ...] = ()
    """Of the wrong block, those that show it."""
    seconds: float = 0.0


class KvCheck:
    """Of one model, in the public domain."""

    def __init__(self, net: Name, model: str, fmt: BlockFormat, worker: EngineWorker) -> None:
        self._net, self._model, self._format, self._worker = net, model, fmt, worker

    @property
    def able(self) -> bool:
        """Whether honest blocks are known well enough to call others wrong (kv_compare.py)."""
        prompts = self._format.prompts.split(".")
        return self._format.exact and prompts[0] == "bf16" and "grouped" in prompts and "cuda" not in prompts[-1]

    def base(self, value: bytes) -> Name:
        layers = f"0-{self._format.layout.layers - 1}"
        return KvBlock(self._model, "public", self._format.codec, value.hex(), layers).to_name(self._net)

    def values(self, ids: Sequence[int]) -> list[bytes]:
        """Chain values of the full blocks of `ids`."""
        return chain.chain(tuple(ids), self._format.layout.block_tokens)[:MAX_BLOCKS]

    def encode(self, block: torch.Tensor) -> bytes:
        """Content of a block's object."""
        return encode_block(block, self._format)

    async def check(
        self, fetcher: Fetcher, ids: Sequence[int], sample: AuditSample, holders: Sequence[Name] = ()
    ) -> KvFinding:
        """Of the full blocks of `ids` those that `sample` draws, from whoever has them; `holders` are asked first.
        Raises ModelError, BadRecord."""
        size = self._format.layout.block_tokens
        values = self.values(ids)
        finding = KvFinding(len(values))
        drawn = sample.of(len(values))
        if not drawn:
            return finding
        computed = await self.compute(ids[: (drawn[-1] + 1) * size], finding)
        for index in drawn:
            signed = await self._signed(fetcher, values[index], index, holders)
            if signed is None:
                finding.missing += 1
            elif self._wrong(signed, computed[index], finding):
                await self._look_before(fetcher, values[:index], computed, finding, holders)
                break
        return finding

    async def published(
        self, fetcher: Fetcher, ids: Sequence[int], most: int, holders: Sequence[Name] = ()
    ) -> list[SignedBlock]:
        """The first `most` full blocks of `ids` as somebody publishes them, up to the first that nobody has."""
        values = self.values(ids)[:most]
        found: list[SignedBlock] = []
        for start in range(0, len(values), AT_ONCE):
            part = enumerate(values[start : start + AT_ONCE], start)
            for signed in await together(self._signed(fetcher, value, at, holders) for at, value in part):
                if signed is None:
                    return found
                found.append(signed)
        return found

    async def first_layer_holds(self, ids: Sequence[int], blocks: Sequence[torch.Tensor]) -> bool:
        """Whether the first layer of these first blocks of `ids` is that of their tokens, which costs next to nothing.
        What does not hold is to be checked as `check` does."""
        known = ids[: len(blocks) * self._format.layout.block_tokens]
        right = await self._worker.run(lambda engine: engine.first_layer(known))
        said = torch.cat([block[0] for block in blocks], dim=2)
        return torch.equal(said.view(torch.uint8), right.contiguous().view(torch.uint8))

    def decode(self, signed: SignedBlock) -> torch.Tensor:
        """Raises BadRecord."""
        return decode_block(bytearray(signed.packets.content()), self._format)

    async def compute(self, ids: Sequence[int], finding: KvFinding | None = None) -> list[torch.Tensor]:
        """KV of the full blocks of `ids`, as a prompt."""
        blocks: dict[int, torch.Tensor] = {}
        before = await self._worker.run(lambda engine: engine.counters.prefill_s)
        await self._worker.prefill(ids, (), blocks.__setitem__, cache_salt="audit")
        if finding is not None:
            finding.seconds += await self._worker.run(lambda engine: engine.counters.prefill_s) - before
        return [blocks[index] for index in range(len(blocks))]

    async def _look_before(
        self, fetcher: Fetcher, values: Sequence[bytes], computed: Sequence[torch.Tensor], finding: KvFinding,
        holders: Sequence[Name],
    ) -> None:  # fmt: skip
        known = {signed.index for signed in finding.looked}
        for index, value in enumerate(values):
            signed = None if index in known else await self._signed(fetcher, value, index, holders)
            if signed is not None and self._wrong(signed, computed[index], finding):
                return

    def _wrong(self, signed: SignedBlock, computed: torch.Tensor, finding: KvFinding) -> bool:
        """Whether it is proven to be, and enters it; one that is only unlike is counted."""
        finding.looked.append(signed)
        content = signed.packets.content()
        try:
            difference = compare(self.decode(signed), computed)
        except BadRecord as error:
            difference = KvDifference(0, 0, 0, 1e9, f"it is no block of this model: {error}")
        if difference is None:
            return False
        if not difference.proven:
            finding.unlike += 1
            return False
        right = encode_block(computed, self._format)
        finding.wrong, finding.difference = signed, difference
        finding.segments = _showing(content, right, difference, self._format.layout)
        return True

    async def _signed(
        self, fetcher: Fetcher, value: bytes, index: int, holders: Sequence[Name]
    ) -> SignedBlock | None:  # fmt: skip
        """None of one that nobody has, or that is so large that nobody can take it for one."""
        base, most = self.base(value), TIMES_LARGER * block_bytes(self._format)
        for hints in ((), *((holder,) for holder in holders)):
            try:
                found = await fetcher.discover(base, hints=hints, patient=False)
                if found.manifest is not None:
                    return SignedBlock(index, await fetcher.packets(found, most=most, hints=hints), found.signed_by)
            except (NetworkError, TrustError, BadRecord):  # what cannot be verified is nobody's
                continue
        return None


def _showing(content: bytes, right: bytes, difference: KvDifference, layout: BlockLayout) -> tuple[int, ...]:
    """The segments in which the difference shows: their digests are in the signed manifest. None where another size
    shows it already."""
    if len(content) != len(right):
        return ()
    pieces = range(-(-len(right) // SEGMENT_BYTES))
    unlike = [at for at in pieces if _piece(content, at) != _piece(right, at)]
    if difference.whole:
        return tuple(unlike[:MAX_SHOWN])
    header, of_layer = len(right) - layout.nbytes, layout.nbytes // layout.layers
    first = (header + difference.layer * of_layer) // SEGMENT_BYTES
    last = (header + (difference.layer + 1) * of_layer - 1) // SEGMENT_BYTES
    return tuple(at for at in unlike if first <= at <= last)[:MAX_SHOWN]


def _piece(content: bytes, at: int) -> bytes:
    return content[at * SEGMENT_BYTES : (at + 1) * SEGMENT_BYTES]


def judge(block: bytes, shown: dict[int, bytes], alike: set[int], right: torch.Tensor, fmt: BlockFormat) -> str:
    """Why a block is wrong of which only some segments are at hand (`shown`), and others (`alike`) are known to be
    those of `right`; `block`: its content as it is computed here. Raises BadRecord where they prove nothing."""
    content = bytearray(block)
    for at, piece in shown.items():
        content[at * SEGMENT_BYTES : at * SEGMENT_BYTES + len(piece)] = piece
    unknown = -(-len(block) // SEGMENT_BYTES) - len(shown) - len(alike - set(shown))
    try:
        difference = compare(decode_block(content, fmt), right)
    except BadRecord as error:
        return f"it is no block of this model: {error}"
    if difference is None or not difference.proven or (difference.whole and unknown):
        raise BadRecord("the segments at hand are those of an honest block")
    return difference.words
