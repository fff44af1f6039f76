"""The cache of prepared models: `<cache_dir>/models/<digest>/`.

Owns: preparing once, finding again, noticing damage, repairing it, staying whole when interrupted or raced. Must not
know: how a source is converted, torch, what a model is used for.

A model is made in a hidden sibling folder and renamed into place, under one lock, so a folder that has a digest for a
name is complete. What an interrupted run left (SIGKILL, power) bears a temporary name and is removed by the next one;
nothing is flushed to disk by force, because every use verifies every byte and damage is repaired by making it again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ndn_infer import files
from ndn_infer.errors import DamagedCache, StorageError, UnknownModel
from ndn_infer.models import convert, manifest
from ndn_infer.models.manifest import ModelManifest
from ndn_infer.models.registry import ModelSource, Progress, resolve

log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = ".tmp-"
_LOCK = ".lock"
_INDEX = "index.json"
_LOCK_POLL_S = 0.2
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A prepared model: its folder on this disk and what its manifest says."""

    path: Path
    manifest: ModelManifest

    @property
    def digest(self) -> str:
        return self.manifest.digest


def prepare(source: str, cache_dir: Path, *, progress: Progress | None = None, force: bool = False) -> ModelFolder:
    """The model `source` means (see registry.resolve), converted and cached, every byte verified.

    The second time nothing is converted: the source and the cached files are hashed. A damaged folder is made again,
    and so is a whole one with `force`. Raises UnknownModel, ModelError (cannot be converted), StorageError (disk).
    """
    report = progress or _silent
    found = resolve(source, progress=progress)
    root = cache_dir / "models"
    with _storage_errors(root):
        mark = convert.fingerprint(found, report)
        if not force and (ready := _find_ready(root, mark, report)):  # needs no lock, so works on a read-only disk
            _tidy(root)
            return ready
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root, report):
            _remove_leftovers(root)
            if not force and (ready := _find_ready(root, mark, report)):  # another process may have been faster
                return ready
            return _make(found, mark, root, report)


def open_model(digest: str, cache_dir: Path, *, verify: bool = True, progress: Progress | None = None) -> ModelFolder:
    """The prepared model of this digest; every file is hashed unless `verify` is False.

    Raises UnknownModel (not in this cache), DamagedCache (missing, truncated or altered file).
    """
    folder = cache_dir / "models" / digest
    if not _DIGEST.fullmatch(digest) or not folder.is_dir():
        raise UnknownModel(f"no model {digest[:16]} is prepared in {cache_dir}", hint="ndn-infer models prepare MODEL")
    return _open(folder, verify, progress or _silent)


def find(source: str, cache_dir: Path) -> str | None:
    """Digest of the model that was prepared from `source` before, None when it was not. Hashes the source only."""
    found = resolve(source)
    with _storage_errors(cache_dir):
        return _look_up(cache_dir / "models", convert.fingerprint(found, _silent))


def list_models(cache_dir: Path) -> list[ModelFolder]:
    """All prepared models whose manifest is whole, sorted by source. Contents are not hashed."""
    root = cache_dir / "models"
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if _DIGEST.fullmatch(folder.name):
            try:
                found.append(_open(folder, False, _silent))
            except DamagedCache as error:
                log.warning("%s", error)
    return sorted(found, key=lambda model: (model.manifest.source, model.digest))


def remove(digest: str, cache_dir: Path) -> None:
    """Delete a prepared model. Raises UnknownModel, StorageError."""
    root = cache_dir / "models"
    if not _DIGEST.fullmatch(digest) or not (root / digest).is_dir():
        raise UnknownModel(f"no model {digest[:16]} is prepared in {cache_dir}")
    with _storage_errors(root), _locked(root, _silent):
        _discard(root, root / digest)


# ------------------------------------------------------------ inside


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _open(folder: Path, verify: bool, progress: Progress) -> ModelFolder:
    known = manifest.read(folder)
    if known.digest != folder.name:
        raise DamagedCache(f"{folder} holds the model {known.digest[:16]}")
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        progress("verifying", done, known.size)

    if verify:
        manifest.check_files(folder, known, count)
    return ModelFolder(folder, known)


def _find_ready(root: Path, mark: str, progress: Progress) -> ModelFolder | None:
    digest = _look_up(root, mark)
    if digest is None:
        return None
    try:
        return _open(root / digest, True, progress)
    except DamagedCache as error:
        log.warning("%s; making it again", error)
        return None


def _make(source: ModelSource, mark: str, root: Path, progress: Progress) -> ModelFolder:
    """Build in a temporary folder, rename into place. Nothing is left behind, whatever happens."""
    work = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=root))
    try:
        facts = convert.build(source, work, progress)
        paths = sorted(work.iterdir())
        total, done = sum(path.stat().st_size for path in paths), 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            progress("hashing", done, total)

        files = tuple(manifest.hash_file(path, count) for path in paths)
        made = ModelManifest(manifest.model_digest(files), source.label, mark, facts, files)
        manifest.write(work, made)
        work.chmod(0o755)
        final = root / made.digest
        if final.exists():
            _discard(root, final)
        work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    try:
        _write_index(root, {**_read_index(root), mark: made.digest})
    except OSError as error:  # the model is whole and its manifest says what it was made from: see _look_up
        log.warning("%s cannot be written (%s)", root / _INDEX, error.strerror)
    log.info("prepared %s as %s", source.label, made.digest)
    return ModelFolder(final, made)


def _discard(root: Path, folder: Path) -> None:
    """Rename first, so that a half deleted folder never bears a digest. Who has it mapped in memory keeps it."""
    doomed = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=root))
    folder.rename(doomed / "old")
    shutil.rmtree(doomed)


def _remove_leftovers(root: Path) -> None:
    """Only the holder of the lock makes temporary folders, so what the holder finds is nobody's."""
    for path in root.glob(_TEMPORARY + "*"):
        log.info("removing what an interrupted run left: %s", path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _tidy(root: Path) -> None:
    """Remove leftovers if that is possible now: not while somebody prepares a model, not on a read-only disk."""
    with contextlib.suppress(OSError):  # the caller has its model; BlockingIOError is one of these too
        if not any(root.glob(_TEMPORARY + "*")):
            return
        with files.locked(root / _LOCK, wait=False, mode=0o644):
            _remove_leftovers(root)


def _look_up(root: Path, mark: str) -> str | None:
    """Digest of the folder made from this source. The index is a short cut, and knows sources that differ only in form
    (shards); without it the manifests tell, so a model whose index entry could not be written is not lost."""
    digest = _read_index(root).get(mark)
    if digest is not None and (root / digest).is_dir():
        return digest
    models = list_models(root.parent)
    return next((model.digest for model in models if model.manifest.fingerprint == mark), None)


def _read_index(root: Path) -> dict[str, str]:
    """Source fingerprint -> digest. An unreadable index only costs time: the manifests are read."""
    try:
        value = json.loads((root / _INDEX).read_bytes())
        return {str(k): v for k, v in value.items() if isinstance(v, str) and _DIGEST.fullmatch(v)}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        log.warning("%s is damaged (%s)", root / _INDEX, error)
        return {}


def _write_index(root: Path, index: dict[str, str]) -> None:
    temporary = root / f"{_TEMPORARY}{_INDEX}"
    try:
        temporary.write_text(json.dumps(index, sort_keys=True, indent=1) + "\n")
        temporary.replace(root / _INDEX)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(root: Path, progress: Progress) -> Iterator[None]:
    """One process at a time changes the cache. The kernel frees the lock when its holder dies, however it dies."""
    while True:
        try:
            descriptor = files.lock(root / _LOCK, wait=False, mode=0o644)
            break
        except BlockingIOError:
            progress("waiting for another process that prepares a model", 0, 0)
            time.sleep(_LOCK_POLL_S)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _storage_errors(root: Path) -> Iterator[None]:
    """What the disk refuses becomes a StorageError with advice; other OSErrors pass."""
    try:
        yield
    except OSError as error:
        where = error.filename or root
        if error.errno in _NO_SPACE:
            raise StorageError(f"no space left for the model in {root}") from error
        if error.errno in _NOT_ALLOWED:
            hint = "choose another folder with paths.cache_dir, or change its permissions"
            raise StorageError(f"{where} cannot be written ({error.strerror})", hint=hint) from error
        raise StorageError(f"{where}: {error.strerror or error}") from error
