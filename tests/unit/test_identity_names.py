"""Identities: which names may own keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadName
from ndn_infer.namespace import RESERVED_SITES
from ndn_infer.security.identity import (
    Identity,
    IdentityKind,
    parse_identity,
    require_identity,
)
from tests.unit.trust_kit import NET, under_net


@pytest.mark.parametrize(
    ("uri", "identity", "words"),
    [
        ("", Identity(IdentityKind.ANCHOR), "the trust anchor"),
        ("/operator", Identity(IdentityKind.OPERATOR), "the operator"),
        ("/home", Identity(IdentityKind.SITE, "home"), "site home"),
        ("/home/n1", Identity(IdentityKind.NODE, "home", "n1"), "node n1, site home"),
        ("/home/n1/rag", Identity(IdentityKind.ROLE, "home", "n1", "rag"), "role rag of node n1, site home"),
        ("/home/n1/my-service", Identity(IdentityKind.ROLE, "home", "n1", "my-service"), "role my-service of"),
    ],
)
def test_kinds(uri: str, identity: Identity, words: str) -> None:
    assert parse_identity(NET, under_net(uri)) == identity
    assert require_identity(NET, under_net(uri)) == identity
    assert words in identity.words()


@pytest.mark.parametrize(
    "uri",
    [
        "/home/n1/decode/ask/status",
        "/operator/n1",
        "/operator/n1/decode",
        "/KEY",
        "/home/KEY",
        "/home/n1/KEY",
        "/32=home",
        "/home/v=1",
        "/home/a%20b",
        "/%C3%A9",
        "/-home",
        "/" + "x" * 65,
        *(f"/{word}/n1" for word in sorted(RESERVED_SITES)),
        *(f"/{word}" for word in sorted(RESERVED_SITES - {"operator"})),
    ],
)
def test_what_is_no_identity(uri: str) -> None:
    assert parse_identity(NET, under_net(uri)) is None
    with pytest.raises(BadName) as caught:
        require_identity(NET, under_net(uri))
    assert caught.value.hint


def test_names_of_other_networks() -> None:
    assert parse_identity(NET, ndn.from_uri("/ndn-infer/other/home/n1")) is None
    assert parse_identity(NET, ndn.from_uri("/ndn-infer")) is None
    assert parse_identity(NET, b"") is None


@given(st.lists(st.sampled_from(["KEY", "home", "operator", "model", "n1", "v=1", "32=x", "a%00b"]), max_size=5))
def test_what_parses_is_built_back(parts: list[str]) -> None:
    name = NET + b"".join(map(ndn.component_from_uri, parts))
    found = parse_identity(NET, name)
    if found is not None:
        labels = [label for label in (found.site, found.node, found.role) if label]
        if found.kind is IdentityKind.OPERATOR:
            labels = ["operator"]
        assert NET + b"".join(map(ndn.generic, labels)) == name
