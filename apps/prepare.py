"""Making ready what producers need: prepared models, and the operator's records of what their aliases mean."""

from __future__ import annotations

from pathlib import Path

from ndn_infer import catalog
from ndn_infer.apps.progress import Progress
from ndn_infer.config import Config
from ndn_infer.errors import MissingKey
from ndn_infer.models.store import ModelFolder, prepare
from ndn_infer.records import ModelRecord
from ndn_infer.security.keychain import Keychain


def prepared(config: Config, model: str, *, quiet: bool = False) -> ModelFolder:
    """The prepared folder of an alias, id, folder or digest; prepares it, with a bar, when that has not been done."""
    with Progress(quiet=quiet) as progress:
        return prepare(model, config.cache_dir, progress=progress)


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
    )


def publish_aliases(config: Config, keychain: Keychain, folders: dict[str, ModelFolder]) -> list[Path]:
    """Catalogue files for these aliases: signed here when the operator's key is here, else those that exist."""
    paths: list[Path] = []
    for alias, folder in folders.items():
        try:
            paths += catalog.publish(config.catalog_dir, keychain, record_of(folder, alias))
        except MissingKey:
            labels = (catalog.label(alias), folder.digest)
            paths += [config.catalog_dir / "model" / f"{label}.ndn" for label in labels]
    return paths
