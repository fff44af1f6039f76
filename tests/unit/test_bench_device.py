"""What the figures of a device say where there is none."""

from __future__ import annotations

import argparse

import pytest
import torch

from ndn_infer import config
from ndn_infer.errors import EngineUnavailable
from ndn_infer.testbed.bench import device


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_absent_device_is_a_plain_error() -> None:
    effective = config.load(environment={}, flags=["engine.device=cuda"])
    with pytest.raises(EngineUnavailable, match="no CUDA device"):
        device.run(argparse.Namespace(quick=True), effective)
