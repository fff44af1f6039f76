"""The engine class of this machine, for tests that ask an engine without a Client.

Owns: nothing else.
"""

from __future__ import annotations

import torch

from ndn_infer.config import EngineConfig
from ndn_infer.engine.instructions import machine_of
from ndn_infer.engine.split_rows import can_split
from ndn_infer.engine.weights import DTYPES
from ndn_infer.engine_class import LLAMA, EngineClass, weights_label


def engine_here(config: EngineConfig) -> str:
    """The class of a Llama model with these options, on the CPU."""
    cpu, dtype = torch.device("cpu"), DTYPES[config.dtype]
    machine = machine_of(cpu, dtype, packed=True)
    weights = weights_label(config.precision, split=can_split(dtype, cpu))
    return str(EngineClass(config.dtype, weights, LLAMA, config.attention, machine, config.kv_codec))
