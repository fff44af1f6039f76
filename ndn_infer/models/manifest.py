"""What is known about a prepared model: its files with their hashes, its digest, and the facts of its architecture.

Owns: the manifest's format, the rule that makes a model digest, checking a folder against its manifest. Must not know:
where models come from or how they are converted.

The digest covers content only (weights, tokenizer, configuration, chat template): no time, no path, no version of a
tool, so that two machines that prepare the same model get the same digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ndn_infer.errors import DamagedCache

FILE = "manifest.json"
CLASSIFIER = "text-classifier"
_FORMAT = 1
_DIGEST_DOMAIN = b"ndn-infer model 1\n"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX = re.compile(r"[0-9a-f]{64}")
_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One content file: plain name, bytes, SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a program wants to know of a model before it loads it. Counts are of tokens, heads and numbers."""

    kind: str
    """"causal-lm", "text-embedding" or CLASSIFIER, of which `hidden` are labels and `vocab` terms."""
    architecture: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocab: int
    context_length: int
    eos_ids: tuple[int, ...]
    weights_dtype: str


@dataclass(frozen=True, slots=True)
class ModelManifest:
    digest: str
    source: str
    fingerprint: str
    """SHA-256 over the files of the source, in hex: the same source is not converted twice."""
    facts: Facts
    files: tuple[FileEntry, ...]

    @property
    def size(self) -> int:
        """Bytes of all content files."""
        return sum(entry.size for entry in self.files)


def model_digest(files: Iterable[FileEntry]) -> str:
    """SHA-256, in hex, over the sorted (file name, SHA-256) pairs as compact JSON."""
    pairs = sorted((entry.name, entry.sha256) for entry in files)
    return hashlib.sha256(_DIGEST_DOMAIN + canonical(pairs)).hexdigest()


def canonical(value: Any) -> bytes:
    """One JSON encoding for one value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hash_file(path: Path, on_bytes: Callable[[int], None] | None = None) -> FileEntry:
    """Name, size and SHA-256 of a file. `on_bytes(n)` after every piece."""
    digest, size = hashlib.sha256(), 0
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
            size += count
            if on_bytes is not None:
                on_bytes(count)
    return FileEntry(path.name, size, digest.hexdigest())


def write(folder: Path, manifest: ModelManifest) -> None:
    """Write `manifest.json`, with a check sum over itself: a flipped digit in a fact must not go unseen."""
    body = {"format": _FORMAT, **asdict(manifest)}
    body["check"] = hashlib.sha256(canonical(body)).hexdigest()
    (folder / FILE).write_bytes(_readable(body))


def _readable(body: dict[str, Any]) -> bytes:
    return json.dumps(body, indent=1, sort_keys=True).encode() + b"\n"


def read(folder: Path) -> ModelManifest:
    """The manifest of a prepared folder. Raises DamagedCache when it is missing, altered or not of this format."""
    try:
        raw = (folder / FILE).read_bytes()
        body = json.loads(raw)
        if raw != _readable(body):
            raise ValueError("form")
        check = body.pop("check")
        if hashlib.sha256(canonical(body)).hexdigest() != check or body.pop("format") != _FORMAT:
            raise ValueError("check sum or format")
        facts = body.pop("facts")
        facts["eos_ids"] = tuple(facts["eos_ids"])
        files = tuple(FileEntry(**entry) for entry in body.pop("files"))
        manifest = ModelManifest(facts=Facts(**facts), files=files, **body)
        if not all(_PLAIN_NAME.fullmatch(entry.name) and _HEX.fullmatch(entry.sha256) for entry in files):
            raise ValueError("file entries")
        if model_digest(files) != manifest.digest:
            raise ValueError("digest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCache(f"{folder / FILE} is missing or damaged ({error})") from error
    return manifest


def check_files(folder: Path, manifest: ModelManifest, on_bytes: Callable[[int], None] | None = None) -> None:
    """Hash every content file. Raises DamagedCache that names the first file which is not what it was."""
    for entry in manifest.files:
        try:
            found = hash_file(folder / entry.name, on_bytes)
        except OSError as error:
            raise DamagedCache(f"{folder / entry.name} cannot be read ({error.strerror})") from error
        if found.size != entry.size:
            raise DamagedCache(f"{folder / entry.name} has {found.size} bytes, not {entry.size}")
        if found.sha256 != entry.sha256:
            raise DamagedCache(f"{folder / entry.name} was altered")
