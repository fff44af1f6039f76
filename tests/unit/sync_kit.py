"""Members of a sync group without a network, and vectors to draw from."""

from __future__ import annotations

from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.sync.core.state import Options, SyncCore
from ndn_infer.sync.core.vector import Entry

EPOCH = 1_700_000_000
GROUP = ndn.from_uri("/g")


def name(label: object) -> ndn.Name:
    return ndn.from_uri(f"/node/{label}")


def core(label: object, now: float = 0.0, **options: object) -> SyncCore:
    return SyncCore(name(label), now, epoch=EPOCH, seed=hash(str(label)) % 1000, options=Options(**options))  # type: ignore[arg-type]


def state(member: SyncCore) -> dict[tuple[ndn.Name, int], int]:
    return {entry[:2]: entry.sequence for entry in member.table}


entries = st.lists(
    st.builds(
        Entry,
        st.lists(st.binary(max_size=6), min_size=1, max_size=3).map(lambda parts: b"".join(map(ndn.generic, parts))),
        st.integers(0, 1 << 40),
        st.integers(1, (1 << 64) - 1),
    ),
    unique_by=lambda entry: entry[:2],
    max_size=30,
)
