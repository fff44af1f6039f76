"""`ndn-infer explain` on answers of real processes: from the network, from a file without one, with passages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import RunningNetwork

pytestmark = pytest.mark.model

NO_NETWORK = """
import socket, sys
def refuse(*arguments):
    raise OSError("there is no network here")
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = socket.socket.bind = refuse
from ndn_infer.cli import main
sys.exit(main(sys.argv[1:]))
"""


def explained(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert "Traceback" not in done.stderr
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def offline(network: RunningNetwork, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process that cannot connect to anything."""
    return subprocess.run(
        [sys.executable, "-c", NO_NETWORK, *arguments], env=network.environment, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def nodes(document: dict[str, Any]) -> list[dict[str, Any]]:
    found, left = [], [document["answer"]]
    while left:
        node = left.pop()
        found.append(node)
        left += node.get("parts", [])
    return found


def of_kind(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [node for node in nodes(document) if node["kind"] == kind]


def assert_verified(document: dict[str, Any]) -> None:
    bad = [(node["kind"], node["name"], node.get("why")) for node in nodes(document) if node["state"] != "verified"]
    assert document["state"] == "verified" and not bad, bad
    assert document["first_fault"] is None


def test_an_answer_is_explained_online_and_from_a_file_without_a_network(
    network: RunningNetwork, tmp_path: Path
) -> None:
    file = tmp_path / "answer.ndn"
    question = "Which link of a chain is the weakest one? Answer in a few words, as a smith would say it to a child."
    answer = network.ask(question, "--max-tokens", "24", "--evidence", str(file))
    done = network.run("explain", "--json", "--last")
    assert done.returncode == 0, done.stdout + done.stderr
    online = explained(done)
    assert_verified(online)
    assert online["answer"]["name"] == answer["stream"] and online["answer"]["text"] == answer["text"]
    assert online["answer"]["ids"] == answer["token_ids"]
    (prompt,), (context,) = of_kind(online, "prompt"), of_kind(online, "context")
    assert prompt["ids"] == answer["prompt_token_ids"]
    assert context["messages"][-1] == {"role": "user", "content": question}
    assert context["signer"].endswith("/user")
    (record,) = of_kind(online, "result record")
    assert record["function"] == "tokenize" and record["signer"].endswith("/tokenize")
    of_tokenize = explained(network.run("explain", "--json", record["name"]))
    assert_verified(of_tokenize)
    assert [node["name"] for node in of_kind(of_tokenize, "result record")] == [record["name"]]
    assert len(of_kind(online, "token block")) == len(answer["prompt_token_ids"]) // 16
    assert {node["source"] for node in of_kind(online, "KV block")} <= {"local", "peer", "content-store", "prefilled"}
    assert of_kind(online, "KV block")
    by_name = explained(network.run("explain", "--json", answer["stream"]))
    assert by_name["answer"] == online["answer"]
    done = offline(network, "explain", "--json", "--bundle", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert explained(done)["answer"] == online["answer"]
    kept = explained(offline(network, "explain", "--json", "--last"))
    assert kept["answer"] == online["answer"] and any("no network is running" in note for note in kept["notes"])
    words = offline(network, "explain", "--bundle", str(file)).stdout
    assert "every link is verified" in words and answer["text"].split()[0] in words


def test_passages_are_traced_to_the_ids_that_they_became(network: RunningNetwork, tmp_path: Path) -> None:
    folder, file = tmp_path / "notes", tmp_path / "answer.ndn"
    folder.mkdir()
    (folder / "board.md").write_text("# The board\n\nThe meeting of the board is on Thursday at nine in room four.\n")
    (folder / "garden.md").write_text("# The garden\n\nThe garden of the house is watered on Monday evening.\n")
    answer = network.ask(
        "When is the meeting of the board?", "--rag", str(folder), "--max-tokens", "8", "--evidence", str(file)
    )
    done = offline(network, "explain", "--json", "--bundle", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    document = explained(done)
    assert_verified(document)
    passages = of_kind(document, "passage")
    assert [node["name"] for node in reversed(passages)] == [item["name"] for item in answer["cited"]]
    for node in passages:
        first, end = node["span"]
        assert 0 < first < end < len(answer["prompt_token_ids"])
        assert node["signer"].endswith("/rag") and node["source"] in ("board.md", "garden.md")
    assert not of_kind(document, "corpus")  # a folder without an alias: its digest is in the passages' names
    changed = tmp_path / "changed.ndn"
    changed.write_bytes(file.read_bytes().replace(b"board.md", b"bored.md"))  # by whoever had the file
    done = offline(network, "explain", "--json", "--bundle", str(changed))
    assert done.returncode == 4 and explained(done)["first_fault"]["kind"] == "passage"


def test_what_is_off_is_not_remembered_and_said_to_be_missing(network: RunningNetwork, tmp_path: Path) -> None:
    file = tmp_path / "answer.ndn"
    network.ask(
        "Name a metal that is heavier than lead, please.", "--max-tokens", "4", "--set", "ask.context=off",
        "--evidence", str(file),
    )  # fmt: skip
    done = offline(network, "explain", "--json", "--bundle", str(file))
    document = explained(done)
    assert done.returncode == 3 and document["state"] == "missing"
    assert document["first_fault"]["kind"] == "context"


def test_an_answer_may_name_the_record_of_what_was_asked(network: RunningNetwork, tmp_path: Path) -> None:
    """With ask.context=named a stranger finds it by the answer's record alone."""
    file = tmp_path / "answer.ndn"
    network.ask(
        "Name a tree that grows in the north, please.", "--max-tokens", "4", "--set", "ask.context=named",
        "--evidence", str(file),
    )  # fmt: skip
    document = explained(offline(network, "explain", "--json", "--bundle", str(file)))
    assert_verified(document)
    (record,), (context,) = of_kind(document, "answer record"), of_kind(document, "context")
    assert record["context"] == context["name"]


def test_a_private_answer_is_explained_by_members_only(network: RunningNetwork, tmp_path: Path) -> None:
    file = tmp_path / "answer.ndn"
    assert network.run("domain", "create", "explained").returncode == 0
    question = "Which colour has the door of the cellar, please?"
    network.ask(question, "--domain", "explained", "--max-tokens", "4", "--evidence", str(file))
    assert question.encode() not in file.read_bytes()
    document = explained(offline(network, "explain", "--json", "--bundle", str(file)))
    assert_verified(document)
    assert of_kind(document, "context")[0]["messages"][-1]["content"] == question
    anchor = tmp_path / "anchor.cert"
    anchor.write_bytes(next(network.home.rglob("anchor.cert")).read_bytes())
    others = {**network.environment, "XDG_DATA_HOME": str(tmp_path / "others")}
    stranger = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, "explain", "--json", "--bundle", str(file), "--anchor", str(anchor),
         "--set", f"network.net={document['answer']['name'].split('/model/')[0]}"],
        env=others, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    document = explained(stranger)
    assert stranger.returncode == 3 and document["state"] == "unproven" and question not in stranger.stdout
    assert "sealed" in document["first_fault"]["why"]


def test_wrong_input_is_one_clear_line(network: RunningNetwork, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.ndn"
    nothing.write_bytes(b"not a bundle")
    for arguments, status in (
        (("--bundle", str(nothing)), 7), (("--bundle", str(tmp_path / "none")), 7), ((), 2), (("/a/b",), 2),
        (("--last", "/a/b"), 2),
    ):  # fmt: skip
        done = offline(network, "explain", *arguments)
        assert done.returncode == status and "Traceback" not in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.strip().splitlines()) <= 2
