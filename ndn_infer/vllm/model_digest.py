"""The digest of what vLLM computes with: the files of a model's weights, or of an adapter.

Owns: which files count, the digest over them, remembering it while the files stay as they are. Must not know: vLLM, the
network, prepared models (models/), whose digest covers the tokenizer too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from ndn_infer.errors import ModelError, StorageError
from ndn_infer.files import write_at_once
from ndn_infer.models.manifest import canonical, hash_file

_DOMAIN: Final = b"ndn-infer vllm weights 1"
_WEIGHTS: Final = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf"})
_CONFIGURATIONS: Final = frozenset(
    {"config.json", "adapter_config.json", "quantize_config.json", "hf_quant_config.json"}
)
MOST_FILES: Final = 4096
MOST_KNOWN: Final = 64


def weights_digest(folder: Path, known: Path | None = None) -> str:
    """64 hex digits, the same for equal files on every machine. `known` is a file in which digests are remembered, by
    path, size and time. Raises ModelError for a folder without weights."""
    files = sorted(path for path in _files(folder) if path.suffix in _WEIGHTS or path.name in _CONFIGURATIONS)
    if len(files) > MOST_FILES or not any(path.suffix in _WEIGHTS for path in files):
        raise ModelError(
            f"{folder} holds no weights that can be hashed", hint="say model_digest in kv_connector_extra_config"
        )
    stamp = canonical([[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files])
    mark = hashlib.sha256(stamp).hexdigest()
    remembered = _read(known)
    if mark not in remembered:
        parts = [[entry.name, entry.size, entry.sha256] for entry in map(hash_file, files)]
        remembered[mark] = hashlib.sha256(_DOMAIN + canonical(parts)).hexdigest()
        _write(known, remembered)
    return remembered[mark]


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else [folder]
    except OSError as error:
        raise ModelError(f"cannot read {folder}: {error.strerror}") from error


def _read(known: Path | None) -> dict[str, str]:
    if known is None:
        return {}
    try:
        found: Any = json.loads(known.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {mark: digest for mark, digest in found.items() if isinstance(digest, str) and len(digest) == 64}


def _write(known: Path | None, remembered: dict[str, str]) -> None:
    if known is None:
        return
    try:
        known.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_at_once(known, json.dumps(dict(list(remembered.items())[-MOST_KNOWN:])).encode())
    except (OSError, StorageError):
        return  # it is hashed again next time
