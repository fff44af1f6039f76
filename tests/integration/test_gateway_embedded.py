"""A gateway where no network runs: it brings one up, over TLS here, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from aiohttp import ClientSession

from ndn_infer.models.store import ModelFolder
from tests.certificates import certificate_files
from tests.daemons import environment_in, processes_of, stop, wait_ready

pytestmark = pytest.mark.model


async def asked(url: str, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    body = {"model": "smollm2-135m-instruct", "prompt": "One, two,", "max_tokens": 4}
    async with ClientSession() as session:
        async with session.post(f"{url}/completions", json=body, ssl=context) as answer:
            assert answer.status == 200 and (await answer.json())["usage"]["completion_tokens"] == 4
        async with session.get(url.replace("/v1", "/ready"), ssl=context) as answer:
            assert await answer.json() == {"status": "ready"}


def test_it_brings_up_a_network_that_ends_with_it(tmp_path: Path, smollm2: ModelFolder, model_cache: Path) -> None:
    certificate, key = certificate_files(tmp_path, "gateway")
    runtime = tempfile.mkdtemp(prefix="ndn-infer-t-")
    environment = environment_in(tmp_path, model_cache, NDN_INFER_PATHS_RUNTIME_DIR=runtime)
    log = tmp_path / "gateway.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "ndn_infer", "gateway", "--port", "0", "--set", f"gateway.tls_cert={certificate}",
             "--set", f"gateway.tls_key={key}", "--set", "gateway.ready_s=0"],
            env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip
    lines: list[str] = []
    try:
        wait_ready(process, lines, log)
        url = lines[-1].split()[1]
        assert len(lines) == 1 and url.startswith("https://127.0.0.1:")
        asyncio.run(asked(url, certificate))
    finally:
        assert stop(process) == 0, log.read_text()
        shutil.rmtree(runtime, ignore_errors=True)
    deadline = time.monotonic() + 10
    while (left := processes_of(environment)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
