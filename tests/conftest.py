"""Fixtures: prepared models (once a session), keys (once a session), real daemons."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ndn_infer.models.store import ModelFolder, prepare
from tests.daemons import RunningNetwork, run_network

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for a hub
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as ndn_infer/cli.py does, for engines in this process
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")  # as the engine does: whoever computes first decides
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
settings.register_profile("untimed", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("untimed")


@pytest.fixture(scope="module", autouse=True)
def _no_network_of_the_users_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is configured in this process comes from the test, not from the network in use on the machine, nor from one
    that commands of another module made."""
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", autouse=True)
def _no_engine_outlives_its_module() -> Iterator[None]:
    """Commands freeze what there is and let the collector look rarely (ndn_infer/console/collector.py). Here many run
    in one process, and engines in cycles would never be freed."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def _no_log_of_a_command_outlives_its_module() -> Iterator[None]:
    """Commands send the log to their standard error, which a test has closed when the next one writes there. pytest's
    own handlers come and go with each phase of a test."""
    root = logging.getLogger()
    level = root.level
    yield
    for handler in list(root.handlers):
        if not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where prepared models lie. NDNINFER_TEST_CACHE saves the preparation between runs by hand."""
    given = os.environ.get("NDNINFER_TEST_CACHE")
    return Path(given) if given else tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def smollm2(model_cache: Path) -> ModelFolder:
    return prepare("smollm2-135m-instruct", model_cache)


@pytest.fixture(scope="session")
def minilm(model_cache: Path) -> ModelFolder:
    return prepare("all-minilm-l6-v2", model_cache)


@pytest.fixture(scope="session")
def network(
    smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNetwork]:
    """`ndn-infer up` in separate processes, bf16, for all tests that need no settings of their own. What another test
    asked is remembered: who counts what is computed asks what nobody else asks, and makes domains of its own name.
    Prefill is asked always: by default the speeds of the machine decide."""
    more = {"NDN_INFER_ENGINE_PREFILL_ELSEWHERE": "always"}
    with run_network(tmp_path_factory.mktemp("net"), model_cache, **more) as running:
        yield running
