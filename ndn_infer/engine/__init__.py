"""The engine: prompts and tokens through a model. No network.

Owns: what has to be set before the libraries below it compute for the first time.

oneDNN picks a bf16 kernel by the shape of a product. Up to AVX-512 all of them add in the same order, so that the KV of
a prompt is equal bit for bit however the prompt is cut and wherever its beginning comes from. With AMX that order
depends on the number of rows. ONEDNN_MAX_CPU_ISA=DEFAULT in the environment takes AMX all the same (docs/engine.md).
"""

import os

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
