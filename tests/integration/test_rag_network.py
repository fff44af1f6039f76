"""Retrieval by name: a corpus served by real processes, found, cited, fetched and verified; whole with `-m slow`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ndn_infer import config as configuration
from ndn_infer.client import Client
from ndn_infer.models.store import ModelFolder
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from tests.daemons import RunningNetwork, run_network
from tests.library_corpus import QUESTIONS, export, holds

pytestmark = pytest.mark.model


@pytest.fixture(scope="module", params=[3, pytest.param(1, marks=pytest.mark.slow)], ids=["third", "whole"])
def served(
    request: pytest.FixtureRequest, smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningNetwork]:  # fmt: skip
    """With a third of what answers no question, or all of it."""
    folder = tmp_path_factory.mktemp("library")
    export(folder, every=request.param)
    directory = tmp_path_factory.mktemp("net")
    with run_network(directory, model_cache, "--corpus", str(folder), "--corpus-name", "library") as running:
        yield running


async def _look_up(network: RunningNetwork) -> tuple[int, list[str], int]:
    """(questions answered within the top 5, questions missed, passages cited); every passage fetched and verified."""
    effective = configuration.load(environment=network.environment)
    effective = replace(effective, network=replace(effective.network, transport=f"unix://{network.socket}"))
    async with await Node.join(effective, ensure_keys(effective)) as node:
        client = Client(node).conversation()
        corpus = await client.resolve_corpus("library")
        assert corpus.passages >= 100
        missed, cited_count = [], 0
        for question in QUESTIONS:
            cited = await client.lookup(corpus, question["question"], 5)
            assert len(cited) == 5 and all(b"rag" in item.signed_by.key_name for item in cited)
            cited_count += len(cited)
            if not any(holds(item.passage.text, question) for item in cited):
                missed.append(question["question"])
        return len(QUESTIONS) - len(missed), missed, cited_count


def test_the_passage_that_answers_is_in_the_top_five(served: RunningNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, **served.environment})
    monkeypatch.setenv("XDG_DATA_HOME", str(served.home / ".local" / "share"))
    hits, missed, cited = asyncio.run(_look_up(served))
    print(f"{hits} of {len(QUESTIONS)} answered within the top 5; {cited} cited names fetched and verified")
    assert hits >= 18, missed


def test_ask_with_a_corpus_cites_what_it_rests_on(served: RunningNetwork) -> None:
    question = QUESTIONS[2]
    answer = served.ask(question["question"], "--rag", "library", "--max-tokens", "24")
    assert 1 <= len(answer["cited"]) <= 4 and all(item["score"] >= 0.28 for item in answer["cited"])
    for cited in answer["cited"]:
        assert "/corpus/" in cited["name"] and "/rag/KEY/" in cited["signed_by"]
    assert "getpass.txt" in [cited["source"] for cited in answer["cited"]]
    assert "passage" in {use["kind"] for use in answer["names"]}


def test_a_folder_is_found_by_what_is_in_it(served: RunningNetwork, tmp_path: Path) -> None:
    """Beside a running network, with another corpus of that base name, and again after an edit."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "meeting.md").write_text("# The meeting\n\nThe meeting of the board is on Thursday at nine in room four.")
    question = "When is the meeting of the board?"
    cited = served.ask(question, "--rag", str(folder), "--max-tokens", "4")["cited"]
    assert [item["source"] for item in cited] == ["meeting.md"]
    (folder / "meeting.md").write_text("# The meeting\n\nThe meeting of the board is on Monday at noon in the garden.")
    again = served.ask(question, "--rag", str(folder), "--max-tokens", "4")["cited"]
    assert [item["source"] for item in again] == ["meeting.md"] and again[0]["name"] != cited[0]["name"]
    invented = served.ask("Who won the football world cup of 1998?", "--rag", str(folder))
    assert invented["finish"] == "not-in-documents" and not invented["cited"] and not invented["token_ids"]


def test_unknown_corpus_is_one_clear_line(served: RunningNetwork) -> None:
    done = served.run("ask", "--no-embedded", "--rag", "nowhere", "What?")
    assert done.returncode != 0 and "nowhere" in done.stderr and "Traceback" not in done.stderr
