"""What commands print about names, producers and faces, for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ndn_infer import ndn
from ndn_infer.apps import status
from ndn_infer.apps.summary import shorten
from ndn_infer.apps.watching import PacketTrace
from ndn_infer.cli import main, parse
from ndn_infer.errors import KeyNotAllowed, Timeout
from ndn_infer.local.network import CommonFlags
from ndn_infer.namespace import KINDS
from ndn_infer.testbed.result import report
from ndn_infer.transport.objects.ledger import CONTENT_STORE, PRODUCER, Ledger

DIGEST = "a1b2c3d0" + "5e" * 28


def test_names_explains_the_names_that_ask_prints(capsys: pytest.CaptureFixture[str]) -> None:
    whole = f"/ndn-infer/local-0a1b2c3d/corpus/{DIGEST}/passage/{DIGEST}"
    short = shorten(whole)
    assert short.endswith("/passage/a1b2c3d0...")
    for name in (whole, short):
        assert main(["names", name]) == 0
        said = capsys.readouterr().out
        assert said.startswith("passage:") and "a1b2c3d0" in said and "000000" not in said
    assert main(["names", "--json", short]) == 0
    assert json.loads(capsys.readouterr().out)["parts"]["passage"] == "a1b2c3d0..."


def test_names_takes_its_own_examples(capsys: pytest.CaptureFixture[str]) -> None:
    main(["names"])
    examples = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  /ndn-infer")]
    assert len(examples) == len(KINDS)
    for example in examples:
        assert main(["names", example]) == 0, example


def test_status_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    face = {"face_id": 257, "uri": "fd://257", "in_interests": 1234, "in_data": 0, "out_interests": 0, "out_data": 5}
    producer = {
        "identity": "/n/s/m/decode", "functions": ["generate", "generate"], "subjects": [DIGEST, "ff" * 32], "pid": 1,
        "queue": 0, "running": 0, "engines": {DIGEST: "bf16.int4.llama-torch-3.grouped.avx512.raw"},
        "counters": {"calls": 12345.0, "kv_publish_us": 7.0, "streams_open": 2.0, "failed": 0},
    }  # fmt: skip
    document: dict[str, Any] = {
        "forwarder": dict.fromkeys(
            ("uri", "version", "in_interests", "out_interests", "in_data", "out_data", "pit_entries"), 0
        ),
        "content_store": dict.fromkeys(("entries", "capacity", "hits", "misses"), 0),
        "offers": {"known": 2, "own": 1, "places": 8, "free": 7, "queue": 0},
        "faces": [face], "routes": [], "producers": [producer, {"identity": "/x", "error": "no answer within 3 s"}],
    }  # fmt: skip
    status.print_status(document, {DIGEST: "smollm2"})
    said = capsys.readouterr().out
    for words in ("application on this machine (unix", "1,234 Interests", "generate of smollm2, ffffffffffffffff",
                  "engine class of smollm2: bf16.int4.llama-torch-3.grouped.avx512.raw",
                  "12,345 calls", "2 open streams", "offers: 2, 1 of this machine",
                  "no answer within 3 s"):  # fmt: skip
        assert words in said
    assert "kv_publish_us" not in said and "0 failed" not in said
    status.print_status(document, {}, verbose=1)
    assert "kv_publish_us 7" in capsys.readouterr().out


def test_objects_are_named_with_or_without_version_and_segment() -> None:
    from ndn_infer import ndn
    from ndn_infer.apps.get import split

    base = ndn.from_uri("/lab/catalog/model/x")
    for uri, version in {
        "/lab/catalog/model/x": None, "/lab/catalog/model/x/v=7": 7, "/lab/catalog/model/x/v=7/seg=0": 7,
        "/lab/catalog/model/x/32=metadata/v=7/seg=0": 7,
    }.items():  # fmt: skip
        assert split(ndn.from_uri(uri)) == (base, version)


def test_binary_content_is_not_written_to_a_terminal() -> None:
    from ndn_infer.apps.get import _text
    from ndn_infer.errors import UsageError

    assert _text(b"text") == "text\n"
    for content in (b"\xff", b"a\0b"):
        with pytest.raises(UsageError, match="not text"):
            _text(content)


def test_make_ask_expands_nothing_in_the_prompt(tmp_path: Path) -> None:
    import os
    import shutil
    import subprocess

    make = shutil.which("make")
    if make is None:
        pytest.skip("no make")
    root = Path(__file__).resolve().parents[2]
    stub = tmp_path / "venv" / "bin" / "ndn-infer"
    stub.parent.mkdir(parents=True)
    stub.write_text('#!/bin/sh\nprintf "%s" "$3"\n')
    stub.chmod(0o755)
    for prompt in ("$HOME and $(shell echo no) $$", 'it\'s "quoted" `id` \\n', "# no; comment | &", "two\nlines"):
        for arguments, more in (([f"PROMPT={prompt}"], {}), ([], {"PROMPT": prompt})):
            done = subprocess.run(
                [make, "-s", "-o", "install", "-C", str(root), "ask", f"VENV={tmp_path / 'venv'}", *arguments],
                capture_output=True, text=True, check=True, env={**os.environ, **more},
            )  # fmt: skip
            assert done.stdout == prompt.replace("\n", " ")


def test_offers_in_one_line() -> None:
    none = {"known": 0, "own": 0, "places": 0, "free": 0, "queue": 0}
    assert status.offers_in_words(none) == "offers: none"
    some = {"known": 5, "own": 2, "places": 20, "free": 3, "queue": 0}
    told = "offers: 5, 2 of this machine; 3 of 20 places free"
    assert status.offers_in_words(some) == f"{told} ('ndn-infer offers' lists them)"
    assert status.offers_in_words({**some, "queue": 4}).startswith(f"{told}, 4 waiting")


def test_a_producer_whose_keys_are_not_trusted_did_answer() -> None:
    """Of another network's producers it was said that they do not answer."""
    assert status._why(KeyNotAllowed("wrong anchor")).startswith(
        "it answers, but not with keys that this network trusts"
    )
    assert status._why(TimeoutError()) == "no answer within 3 s" and status._why(Timeout("lost")) == "lost"


def test_each_source_of_a_kind_has_an_example_of_its_own() -> None:
    ledger = Ledger(ndn.from_uri("/n"))
    for uri, source in (("/n/a", PRODUCER), ("/n/b", CONTENT_STORE), ("/n/c", PRODUCER)):
        ledger.used(ndn.from_uri(uri), source, None)
    assert {use.source: (use.uses, use.example) for use in ledger.uses()} == {
        PRODUCER: (2, "/n/a"), CONTENT_STORE: (1, "/n/b"),
    }  # fmt: skip


def test_a_trace_is_beside_the_answer_not_in_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for trace in (PacketTrace(), PacketTrace(tmp_path / "trace")):
        trace("interest", ndn.from_uri("/a/%1B%5B2J"), None)
        trace.close()
    said = capsys.readouterr()
    assert said.out == "" and said.err == (tmp_path / "trace").read_text() == "-> /a/%1B%5B2J\n"


def test_processes_of_a_network_are_as_talkative_as_was_asked() -> None:
    assert CommonFlags(verbose=2).arguments() == ["-v", "-v"] and "-v" not in CommonFlags().arguments()


def test_a_scenario_ends_in_words_unless_json_is_asked_for() -> None:
    """It printed kilobytes of JSON on a terminal."""
    claims = [{"claim": "one copy", "holds": True, "value": 1.0}, {"claim": "no loss", "holds": False, "value": 3}]
    assert report({"figures": {"ttft_s": 0.5}, "holds": False, "claims": claims}) == [
        "", "  ttft_s               0.5", "", "verdict: it does NOT hold", "  yes  one copy (1.0)",
        "  NO   no loss (3)",
    ]  # fmt: skip
    assert [parse("testbed", ["run", "three_nodes", *more]).json for more in ((), ("--json",))] == [False, True]
