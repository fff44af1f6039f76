"""AMX: whether oneDNN computes bf16 with it in this process, and what an engine class says of the machine.

Owns: the environment variable that decides it, and what is read from it. Must not know: models, layers, kernels.

oneDNN picks a bf16 kernel by the shape of a product and the number of threads. Up to AVX-512 all of them add in the
same order. With AMX that order depends on both. So by default oneDNN is kept from it, and KV is equal between machines
with AVX-512, whatever their number of cores. ONEDNN_MAX_CPU_ISA=DEFAULT in the environment allows AMX: then products
take calls of a fixed number of rows (linear.py, attention.py), and the engine class, which requests and names of KV
carry, says that AMX and so many threads computed it (docs/engine.md).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ndn_infer.engine_class import label_of

if TYPE_CHECKING:
    import torch

_VARIABLE: Final = "ONEDNN_MAX_CPU_ISA"
_LIMIT: Final = "AVX512_CORE_BF16"
_WITHOUT_AMX: Final = (
    "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16",
    "AVX512_CORE_FP16", "AVX10_1_512",
)  # fmt: skip


def limit_instructions() -> None:
    """To be called before anything is computed: oneDNN reads the variable once. What is set already stays."""
    os.environ.setdefault(_VARIABLE, _LIMIT)


def amx() -> bool:
    """Whether oneDNN may take AMX here. Where this says so and it does not, only time is lost."""
    import torch

    allowed = os.environ.get(_VARIABLE, "").upper() not in _WITHOUT_AMX
    return allowed and torch.cpu._is_amx_tile_supported()


def machine_of(device: torch.device, dtype: torch.dtype, *, packed: bool) -> str:
    """The machine in an engine class (engine_class.py): the instructions that torch uses on a CPU, like avx512; amx and
    the number of threads where oneDNN may take AMX; cuda and the compute capability of a GPU. `packed`: weights are in
    the layout of oneDNN, whose AMX kernels may add in another order than those for plain weights."""
    import torch

    if device.type != "cpu":
        version = "-".join(map(str, torch.cuda.get_device_capability(device))) if device.type == "cuda" else ""
        return f"{device.type}{version}"
    if dtype == torch.bfloat16 and amx():
        return f"amx{torch.get_num_threads()}{'' if packed else '-mapped'}"
    return label_of(torch.backends.cpu.get_cpu_capability().lower())
