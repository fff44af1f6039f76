"""Whom a producer asks what it holds: identities, also where a process of one made the blocks."""

from __future__ import annotations

from ndn_infer import ndn
from ndn_infer.kv.holders import holders_in, identity_of
from ndn_infer.namespace import Instance, Role

NET = ndn.from_uri("/lab")
PREFILL = Role("home", "n1", "prefill").to_name(NET)


def test_a_process_that_made_blocks_is_asked_by_its_identity() -> None:
    assert identity_of(NET, Instance.of(NET, PREFILL, "0123456789abcdef")) == PREFILL == identity_of(NET, PREFILL)
    assert holders_in(NET, [ndn.to_uri(identity_of(NET, Instance.of(NET, PREFILL, "ab")))]) == (PREFILL,)
