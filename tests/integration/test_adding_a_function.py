"""The function in docs/adding_a_function.md, cut out of the page and really run by a producer process."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ndn_infer import config as configuration
from ndn_infer.errors import CallError
from ndn_infer.node.keys import ensure_keys
from tests.clients import client_of
from tests.daemons import environment_in, run_command, stop, wait_ready

PAGE = Path(__file__).parents[2] / "docs" / "adding_a_function.md"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)[0]
    assert len([line for line in code.splitlines() if line.strip()]) < 40
    (tmp_path / "wordcount.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("wordcount")
    sys.modules.pop("wordcount")


def test_it_runs(module: Any, tmp_path: Path) -> None:
    runtime = Path(tempfile.mkdtemp(prefix="ndn-infer-t-"))
    environment = environment_in(
        tmp_path, tmp_path / "cache", NDN_INFER_PATHS_RUNTIME_DIR=str(runtime), PYTHONPATH=str(tmp_path)
    )
    config = configuration.load(
        environment=environment, flags=[f"paths.data_dir={tmp_path / '.local' / 'share' / 'ndn-infer'}"]
    )
    ensure_keys(config)
    issue = ("keys", "issue", "--site", "home", "--node", "n1", "--roles", "wordcount", "--out", f"{tmp_path}/b")
    assert run_command(*issue, environment=environment).returncode == 0
    processes = []
    try:
        for arguments in (("forwarder",), ("produce", "--functions", "wordcount:WordCount")):
            with (tmp_path / "log").open("a") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "ndn_infer", *arguments],
                    env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
                )  # fmt: skip
            processes.append(process)
            wait_ready(process, [], tmp_path / "log")
        asyncio.run(_call(module, config))
    finally:
        for process in reversed(processes):
            stop(process)
        runtime.rmdir() if not list(runtime.iterdir()) else None


async def _call(module: Any, config: configuration.Config) -> None:
    async with client_of(config) as (client, _):
        subject = ("service", "wordcount")
        count = await client.caller.call(subject, "count", module.CountRequest(text="a b c"), module.Count)
        assert count.words == 3
        large = module.CountRequest(text="word " * 5000)
        assert (await client.caller.call(subject, "count", large, module.Count)).words == 5000
        with pytest.raises(CallError, match="nothing to count"):
            await client.caller.call(subject, "count", module.CountRequest(), module.Count)
