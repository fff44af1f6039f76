"""Names of vLLM's blocks: everything that changes their bytes changes them, and nothing else does."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import chain
from ndn_infer.errors import BadRecord
from ndn_infer.namespace import KvBlock
from ndn_infer.security.domains import DomainEpoch
from ndn_infer.vllm.cache_class import CacheClass
from ndn_infer.vllm.naming import BlockChain, InputSpan, Salted, domain_name

FACTS = CacheClass(
    "vllm 0.32.0 torch 2.13.0", "c0", "torch.bfloat16", "None", "auto", 128, "CPU_ATTN vec", "cpu x86_64",
    "model.layers.0.attn bf16 [3, 128, 128] [16384, 128, 1]", "rank (0, 0)", "none",
)  # fmt: skip
LABEL = "vllm.4c7b191626e8cf4a11d372e4c3850c88"
SALTED = "72f079d02859efe5bbb7ac3b741414d2e503917dff0da2683375db38f47cd042"
WITH_INPUT = "bea51114338fc0098ea6a647556d757ea6c5b74b3ac1bacb5dadfe2a91f1f110"
IDS = list(range(100, 200))
TENANT = DomainEpoch("0123456789abcdef" * 2, 1, bytes(range(32)))


def values(salted: Salted | None = None, domain: Any = None, ids: list[int] | None = None, size: int = 16) -> list[str]:
    made = BlockChain(block_tokens=size, salted=salted or Salted())
    if domain is not None:
        made.domain = domain
    return [value.hex() for value in made.extend(ids or IDS, 99)]


def test_plain_chains_are_those_of_every_other_block() -> None:
    assert values() == [value.hex() for value in chain.chain(IDS, 16)]


def test_vectors() -> None:
    """What instances of every version must agree on."""
    assert FACTS.label == "vllm." + FACTS.digest.hex()[:32]
    assert FACTS.label == LABEL
    assert values(Salted("a" * 64, "acme/x"))[0] == SALTED
    assert values(Salted(inputs=(InputSpan("h", 3, 2),)))[0] == WITH_INPUT


@pytest.mark.parametrize("name", [item.name for item in fields(CacheClass)])
def test_every_fact_changes_the_label(name: str) -> None:
    other: Any = {name: 64 if name == "block_tokens" else getattr(FACTS, name) + "x"}
    assert replace(FACTS, **other).label != FACTS.label


def test_facts_do_not_run_into_each_other() -> None:
    assert replace(FACTS, dtype="ab", weights="c").label != replace(FACTS, dtype="a", weights="bc").label


def test_a_label_is_a_codec_of_names_and_none_of_our_own_engine() -> None:
    assert KvBlock("0" * 64, "public", FACTS.label, "1" * 64, "0-29").codec == FACTS.label
    assert not FACTS.label.startswith(("raw.", "int8."))


def test_a_fact_has_a_bound() -> None:
    with pytest.raises(BadRecord):
        _ = replace(FACTS, layers="x" * ((1 << 20) + 1)).digest


def test_adapter_salt_and_inputs_change_every_block_from_where_they_are() -> None:
    plain = values()
    for salted in (Salted("a" * 64), Salted(salt="acme"), Salted("a" * 64, "acme"), Salted("acme", "a" * 64)):
        assert not set(values(salted)) & set(plain)
    changed = values(Salted(inputs=(InputSpan("h", 40, 2),)))  # in block 2
    assert changed[:2] == plain[:2] and not set(changed[2:]) & set(plain)
    across = values(Salted(inputs=(InputSpan("h", 30, 4),)))  # in blocks 1 and 2
    assert across[:1] == plain[:1] and not set(across[1:]) & set(plain)
    assert values(Salted(inputs=(InputSpan("h", 41, 2),)))[2] != changed[2]
    assert values(Salted(inputs=(InputSpan("g", 40, 2),)))[2] != changed[2]


def test_texts_do_not_run_into_each_other() -> None:
    assert values(Salted("ab", "c"))[0] != values(Salted("a", "bc"))[0] != values(Salted("", "abc"))[0]


def test_a_tenant_has_other_values_also_for_the_same_salt() -> None:
    salted = Salted(salt="acme")
    assert not set(values(salted, TENANT)) & set(values(salted))
    assert not set(values(salted, TENANT)) & set(values(Salted(salt="acme/bob"), TENANT))


def test_domain_names_of_salts() -> None:
    assert [domain_name(salt) for salt in ("acme", "acme/bob", "acme/bob/2", "/x", "")] == ["acme"] * 3 + ["", ""]


@pytest.mark.parametrize("size", [0, -16, 8, 24, 100])
def test_block_sizes_that_a_mixed_in_step_could_be_taken_for(size: int) -> None:
    with pytest.raises(BadRecord):
        BlockChain(block_tokens=size)


def test_too_much_to_mix_in() -> None:
    with pytest.raises(BadRecord):
        Salted(salt="x" * 5000)
    with pytest.raises(BadRecord):
        Salted(inputs=(InputSpan("h", 0, 1),) * 5000)


@given(st.lists(st.integers(0, 2**32 - 2), max_size=90), st.integers(0, 9), st.integers(0, 9))
def test_values_come_in_any_steps(ids: list[int], first: int, more: int) -> None:
    whole = BlockChain(salted=Salted(salt="x")).extend(ids, 99)
    grown = BlockChain(salted=Salted(salt="x"))
    assert grown.extend(ids[: 16 * first], 99) == whole[:first]
    assert grown.extend(ids, more) == whole[:more]
    assert grown.extend(ids, 99) == whole and len(set(whole)) == len(whole) == len(ids) // 16
