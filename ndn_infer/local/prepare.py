"""Making ready what producers need: prepared models, and the operator's records of what their aliases mean.

Owns: from the text that a user gives for a model to its folder and its name in the network. Must not know: how models
are converted, how records are signed.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer import catalog
from ndn_infer.config import Config, with_flags
from ndn_infer.console.progress import ProgressLine
from ndn_infer.errors import MissingKey, NdnInferError, UnknownModel
from ndn_infer.files import path_of
from ndn_infer.models.store import ModelFolder, list_models, open_model, prepare
from ndn_infer.records import ModelRecord
from ndn_infer.security.keychain import Keychain

log = logging.getLogger(__name__)


def prepared(config: Config, model: str, *, quiet: bool = False) -> ModelFolder:
    """The prepared folder of an alias, id, folder or digest; prepares it, with a bar, when that has not been done."""
    model = full_digest(config, model)
    if len(model) == 64 and SHORT_DIGEST.fullmatch(model):
        return open_model(model, config.cache_dir)
    with ProgressLine(quiet=quiet) as progress:
        return prepare(model, config.cache_dir, progress=progress)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model to serve: its name in the network, and the configuration of its engine."""

    name: str
    config: Config
    text: str
    """As `--model` takes it."""


def served_model(config: Config, text: str, *, quiet: bool = False) -> ServedModel:
    """A model as `--model` takes it: NAME, or NAME,weights=int4,dtype=fp32 with engine options of its own.

    Raises ConfigError for an option that [engine] does not have, and what network_name raises.
    """
    name, *options = text.split(",")
    while options and "=" not in options[0]:  # a comma in a path
        name += f",{options.pop(0)}"
    own = with_flags(config, [f"engine.{option}" for option in options], "--model")
    found = network_name(config, name, quiet=quiet)
    return ServedModel(found, own, ",".join((found, *options)))


ALIAS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63})?")
"""What may stand in the catalogue: an alias, or a Hugging Face id."""
SHORT_DIGEST: Final = re.compile(r"[0-9a-f]{8,64}")


def full_digest(config: Config, text: str) -> str:
    """The digest that `text` begins, of the models prepared here, as `models list` prints them; else `text` itself.
    Raises UnknownModel when several begin with it."""
    if not SHORT_DIGEST.fullmatch(text) or len(text) == 64:
        return text
    found = [item.digest for item in list_models(config.cache_dir) if item.digest.startswith(text)]
    if len(found) > 1:
        raise UnknownModel(f"{len(found)} prepared models begin with {text}", hint="give more digits of the digest")
    return found[0] if found else text


def is_path(text: str) -> bool:
    """Whether a user means a model's folder or file, and not an alias or a Hugging Face id."""
    path = path_of(text)
    return (
        text.startswith(("/", "./", "../", "~")) or text in (".", "..") or text.lower().endswith(".gguf")
        or text.lower().endswith(".onnx")
        or (path / "config.json").is_file()
        or (path / "classifier.json").is_file()
    )  # fmt: skip


def network_name(config: Config, text: str, *, quiet: bool = False) -> str:
    """Under which name a network is asked for the model that a user calls `text`: aliases, ids and digests as they are;
    a folder or file of this machine by its digest, since its path means nothing elsewhere. Prepares a folder or file.

    Raises UnknownModel for a text that names no model anywhere, and what `prepare` raises.
    """
    text = full_digest(config, text)
    if is_path(text):
        return prepared(config, text, quiet=quiet).digest
    if not ALIAS.fullmatch(text):
        raise UnknownModel(
            f"{text!r} is neither the alias of a model, nor a Hugging Face id, nor a folder or file here"
        )
    return text


def record_of(folder: ModelFolder, alias: str) -> ModelRecord:
    """What the catalogue says about a model."""
    facts = folder.manifest.facts
    return ModelRecord(
        alias=alias,
        digest=folder.digest,
        kind=facts.kind,
        architecture=facts.architecture,
        context_tokens=facts.context_length,
        vocabulary=facts.vocab,
        layers=facts.layers,
        kv_heads=facts.kv_heads,
        head_dim=facts.head_dim,
        embedding_width=facts.hidden,
        dated=facts.kind == "causal-lm" and _is_dated(folder.path),
    )


def _is_dated(folder: Path) -> bool:
    from ndn_infer.engine.tokenizer import template_is_dated  # takes its time, and most commands need no record

    return template_is_dated(folder)


def publish_aliases(config: Config, keychain: Keychain, folders: dict[str, ModelFolder]) -> list[Path]:
    """Catalogue files for these aliases: signed here when the operator's key is here, else those that came with the
    bundle. Warns where there is none, or one that says something else: callers then do not find this model."""
    paths: list[Path] = []
    for alias, folder in folders.items():
        try:
            paths += catalog.publish(config.catalog_dir, keychain, record_of(folder, alias))
        except MissingKey:
            labels = (catalog.label(alias), folder.digest)
            files = [config.catalog_dir / "model" / f"{label}.ndn" for label in labels]
            _warn_unless_published(files[0], alias, folder.digest)
            paths += files
    return paths


def _warn_unless_published(path: Path, alias: str, digest: str) -> None:
    try:
        said = catalog.known(path.parent.parent, "model", alias)
    except NdnInferError as error:
        log.warning("%s", error)
        said = None
    if said == digest:
        return
    what = "the catalogue record here is of another model" if said else "there is no catalogue record of it here"
    log.warning(
        "callers will not find %s by this name: %s. Where the operator's key is, run 'ndn-infer models publish %s', "
        "then 'keys issue'; then 'keys import' here", alias, what, alias,
    )  # fmt: skip
