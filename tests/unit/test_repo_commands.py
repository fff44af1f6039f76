"""Commands to a repo: what is decoded is what was meant, and nothing else is decoded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn, records
from ndn_infer.errors import BadName, BadRecord
from ndn_infer.namespace import Role
from ndn_infer.records import Record
from ndn_infer.repo.records import (
    COMMANDS,
    DeleteCommand,
    InsertCommand,
    ListCommand,
    RepoAnswer,
    RepoClient,
    RepoEntry,
    UsageQuery,
)
from tests.unit.trust_kit import NET

TEXT = st.text(max_size=60)
ANY_COMMAND = st.one_of(
    st.tuples(
        st.just("insert"),
        st.builds(InsertCommand, TEXT, st.lists(TEXT, max_size=3).map(tuple), st.booleans()),
    ),
    st.tuples(st.just("delete"), st.builds(DeleteCommand, TEXT)),
    st.tuples(st.just("list"), st.builds(ListCommand, TEXT, TEXT)),
    st.tuples(st.just("usage"), st.just(UsageQuery())),
)  # fmt: skip


@given(ANY_COMMAND)
def test_a_command_comes_back_as_it_was(command: tuple[str, Record]) -> None:
    verb, given_ = command
    assert records.decode(COMMANDS[verb], records.encode(given_)) == given_


@given(ANY_COMMAND, st.data())
def test_a_command_cut_short_is_none(command: tuple[str, Record], data: st.DataObject) -> None:
    verb, given_ = command
    wire = records.encode(given_)
    end = data.draw(st.integers(0, len(wire) - 1))
    with pytest.raises(BadRecord):
        records.decode(COMMANDS[verb], wire[:end])


@given(st.sampled_from(sorted(COMMANDS)), st.binary(max_size=300))
def test_any_bytes_are_a_command_or_a_bad_record(verb: str, wire: bytes) -> None:
    try:
        command = records.decode(COMMANDS[verb], wire)
    except BadRecord:
        return
    assert type(command) is COMMANDS[verb]


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_a_bad_record(wire: bytes) -> None:
    try:
        answer = records.decode(RepoAnswer, wire)
    except BadRecord:
        return
    assert all(isinstance(entry, RepoEntry) for entry in answer.entries)


def test_only_a_repo_is_commanded() -> None:
    repo, decode = Role("home", "n1", "repo").to_name(NET), Role("home", "n1", "decode").to_name(NET)
    client: Any = RepoClient
    client(None, None, NET, repo, None)
    for other in (decode, NET, repo + ndn.generic("more"), ndn.from_uri("/elsewhere/home/n1/repo")):
        with pytest.raises(BadName):
            client(None, None, NET, other, None)
