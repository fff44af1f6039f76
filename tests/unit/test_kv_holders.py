"""Names of blocks, made quickly, are those of the grammar."""

from __future__ import annotations

import hashlib

import pytest

from ndn_infer import ndn
from ndn_infer.kv.holders import Subject
from ndn_infer.namespace import KvBlock

NET = ndn.from_uri("/lab")


@pytest.mark.parametrize("layers", ["0-29", "0-0", "7-31"])
def test_a_name_is_that_of_the_grammar_and_can_be_read_back(layers: str) -> None:
    for digit in "0f":
        subject = Subject(digit * 64, "public", "raw.bf16.cpu", layers)
        for value in (bytes(32), b"\xff" * 32, hashlib.sha256(layers.encode()).digest()):
            name = subject.name(NET, value)
            assert subject.uri(NET, value) == ndn.to_uri(name)
            assert name == KvBlock(digit * 64, "public", "raw.bf16.cpu", value.hex(), layers).to_name(NET)
            assert subject.value_of(NET, name) == value
