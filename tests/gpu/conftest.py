"""Tests of a GPU: marked, and skipped where there is none.

NDNINFER_TEST_DEVICE=cpu runs the same bodies on the CPU, but for those of a GPU's memory.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DEVICE = os.environ.get("NDNINFER_TEST_DEVICE", "cuda")
HERE = Path(__file__).parent


def _usable() -> bool:
    if not DEVICE.startswith("cuda"):
        return True
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    skip = pytest.mark.skip(reason="no CUDA device can be used here")
    usable = bool(ours) and _usable()
    for item in ours:
        item.add_marker(pytest.mark.gpu)
        if not usable:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def device() -> str:
    return DEVICE


@pytest.fixture
def cuda() -> str:
    """For what only a GPU has."""
    if not DEVICE.startswith("cuda"):
        pytest.skip("of a GPU's memory")
    return DEVICE
