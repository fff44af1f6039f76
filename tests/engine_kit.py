"""The engine class of this machine, for tests that ask an engine without a Client.

Owns: nothing else.
"""

from __future__ import annotations

import torch

from ndn_infer.config import EngineConfig
from ndn_infer.engine.instructions import machine_of
from ndn_infer.engine.weights import DTYPES
from ndn_infer.engine_class import LLAMA, EngineClass


def engine_here(config: EngineConfig) -> str:
    """The class of a Llama model with these options, on the CPU."""
    machine = machine_of(torch.device("cpu"), DTYPES[config.dtype], packed=True)
    weights = config.weights or config.dtype
    return str(EngineClass(config.dtype, weights, LLAMA, config.attention, machine, config.kv_codec))
