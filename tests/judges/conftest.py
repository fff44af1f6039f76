"""One network and one gateway for all judges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ndn_infer.models.store import ModelFolder
from tests.daemons import RunningNetwork, gateway, run_network


@pytest.fixture(scope="package")
def judged_network(
    smollm2: ModelFolder, minilm: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNetwork]:
    directory = tmp_path_factory.mktemp("judged")
    with run_network(directory, model_cache, "--functions", "tokenize,prefill,decode,embed") as running:
        yield running


@pytest.fixture(scope="package")
def base(judged_network: RunningNetwork) -> Iterator[str]:
    """The base URL of a gateway, which ends in /v1."""
    with gateway(judged_network) as (url, _):
        yield url
