"""schemathesis on the gateway's own /openapi.json: no 5xx, no answer that the document has not, nothing accepted that
its schemas forbid."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.daemons import RunningNetwork, gateway

pytestmark = pytest.mark.model

MODELS: Final = {"/v1/embeddings": "all-minilm-l6-v2"}
LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
TOKENS: Final = 4
"""Of an answer: what is judged here is the form, not the text."""
NOT_CHECKED: Final = "positive_data_acceptance"
"""No schema says that a prompt is not empty, fits the context and has token ids of this model."""


@pytest.fixture(scope="module")
def brief(judged_network: RunningNetwork) -> Iterator[str]:
    """A gateway whose answers are short."""
    with gateway(judged_network, "--set", f"gateway.max_tokens={TOKENS}") as (url, _):
        yield url.removesuffix("/v1")


def narrowed(document: Any) -> Any:
    """The same document, for models that are there, answers that are short and streams that end."""
    endless = [path for path in document["paths"] if path.endswith("/events")]
    for path in endless:
        del document["paths"][path]
    for path, operations in document["paths"].items():
        body = operations.get("post", {}).get("requestBody")
        if body is None:
            continue
        schema = body["content"]["application/json"]["schema"]
        for one in schema.get("anyOf", [schema]):
            one["properties"]["model"] = {"enum": [MODELS.get(path, "smollm2-135m-instruct")]}
            for name in LIMITS:
                if name in one["properties"]:
                    one["properties"][name]["maximum"] = TOKENS
    return document


def judge(base: str, directory: Path, *how: str) -> None:
    with urllib.request.urlopen(f"{base}/openapi.json") as answer:
        document = narrowed(json.load(answer))
    path = directory / "openapi.json"
    path.write_text(json.dumps(document))
    judged = subprocess.run(
        [Path(sys.executable).parent / "st", "run", path, "--url", base, "--seed", "1", "--no-shrink",
         "--exclude-checks", NOT_CHECKED, "--continue-on-failure", *how],
        cwd=directory, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-8000:]
    assert f"Tested: {len(document['paths'])}" in judged.stdout, judged.stdout[-2000:]


def test_no_answer_but_those_described(brief: str, tmp_path: Path) -> None:
    judge(brief, tmp_path, "--phases", "fuzzing", "--max-examples", "8")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_answer_but_those_described_for_minutes(brief: str, tmp_path: Path) -> None:
    judge(brief, tmp_path, "--phases", "coverage,fuzzing", "--max-time", "400")
