"""The functions in docs/adding_a_function.md, cut out of the page and really run by producer processes."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ndn_infer import config as configuration
from ndn_infer.config import Config
from ndn_infer.errors import CallError
from ndn_infer.functions.registry import GROUP, ROLES
from ndn_infer.models.store import ModelFolder
from ndn_infer.node.keys import ensure_keys
from ndn_infer.transport.calls.ask import Ask
from tests.clients import client_of
from tests.daemons import environment_in, stop, wait_ready

PAGE = (Path(__file__).parents[2] / "docs" / "adding_a_function.md").read_text("utf-8")


@contextmanager
def installed(name: str, folder: Path) -> Iterator[Any]:
    """The module of this name in the page, as its package would be installed, entry points included."""
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if f'"""{name}:' in code)
    assert len([line for line in code.splitlines() if line.strip()]) < 40
    (folder / f"{name}.py").write_text(code)
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    lines = [f"{key} = {value}" for key, value in tomllib.loads(toml)["project"]["entry-points"][GROUP].items()]
    package = folder / f"{name}-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield importlib.import_module(name)
    sys.modules.pop(name)


def run_beside(
    folder: Path, cache: Path, functions: str, call: Callable[[Config], Coroutine[Any, Any, None]], *more: str
) -> None:
    """A forwarder, a producer of these functions, and a call."""
    runtime = Path(tempfile.mkdtemp(prefix="ndn-infer-t-"))
    environment = environment_in(folder, cache, NDN_INFER_PATHS_RUNTIME_DIR=str(runtime), PYTHONPATH=str(folder))
    config = configuration.load(
        environment=environment, flags=[f"paths.data_dir={folder / '.local' / 'share' / 'ndn-infer'}"]
    )
    ensure_keys(config, ROLES)
    processes = []
    try:
        for arguments in (("forwarder",), ("produce", "--functions", functions, *more)):
            with (folder / "log").open("a") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "ndn_infer", *arguments],
                    env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
                )  # fmt: skip
            processes.append(process)
            wait_ready(process, [], folder / "log")
        asyncio.run(call(config))
    finally:
        for process in reversed(processes):
            stop(process)
        runtime.rmdir() if not list(runtime.iterdir()) else None


def test_a_service_runs(tmp_path: Path) -> None:
    with installed("wordcount", tmp_path) as module:

        async def call(config: Config) -> None:
            async with client_of(config) as (client, _):
                subject = ("service", "wordcount")
                count = await client.caller.call(Ask(subject, "count", module.CountRequest(text="a b c")), module.Count)
                assert count.words == 3
                large = module.CountRequest(text="word " * 5000)
                assert (await client.caller.call(Ask(subject, "count", large), module.Count)).words == 5000
                with pytest.raises(CallError, match="nothing to count"):
                    await client.caller.call(Ask(subject, "count", module.CountRequest()), module.Count)

        run_beside(tmp_path, tmp_path / "cache", "wordcount:WordCount", call)


@pytest.mark.model
def test_a_function_of_a_model_runs_by_its_registered_name(
    tmp_path: Path, smollm2: ModelFolder, model_cache: Path
) -> None:
    """No schema, key or table of this package knows it: its role is its name."""
    with installed("tokencount", tmp_path) as module:

        async def call(config: Config) -> None:
            async with client_of(config) as (client, _):
                subject, asked = ("model", smollm2.digest), module.CountTokens("The capital of France is")
                assert (await client.caller.call(Ask(subject, "tokencount", asked), module.TokenCount)).tokens == 5

        run_beside(tmp_path, model_cache, "tokencount", call, "--model", "smollm2-135m-instruct")
