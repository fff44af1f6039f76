"""NDNts for tests: its packages once a session, two processes of it a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.interop.ndnts_kit import Agent, install, running_agent
from tests.interop.ndnts_world import BIG


@pytest.fixture(scope="session")
def ndnts(model_cache: Path) -> Path:
    """The npm packages, once a session; once and for all with NDNINFER_TEST_CACHE."""
    return install(model_cache)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agent(ndnts: Path) -> AsyncIterator[Agent]:
    async with running_agent(ndnts) as running_one:
        yield running_one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(ndnts: Path) -> AsyncIterator[Agent]:
    """A second process."""
    async with running_agent(ndnts) as running_one:
        yield running_one


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("big") / "object"
    path.write_bytes(BIG)
    return str(path)
