"""List the models that can be used here, prepare one, or print its digest."""

from __future__ import annotations

import argparse
import json

from ndn_infer.apps.prepare import record_of
from ndn_infer.apps.progress import Progress
from ndn_infer.config import Config
from ndn_infer.models import registry, store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "prepare", "digest"))
    parser.add_argument("model", nargs="?", help="alias, Hugging Face id, folder or .gguf file")
    parser.add_argument("--force", action="store_true", help="prepare again even if it is there")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace, config: Config) -> int:
    if options.action == "list":
        return _list(options, config)
    with Progress(quiet=options.json) as progress:
        folder = store.prepare(
            options.model or config.ask.model, config.cache_dir, progress=progress, force=options.force
        )
    record = record_of(folder, options.model or config.ask.model)
    if options.json:
        print(json.dumps({"digest": folder.digest, "path": str(folder.path), "kind": record.kind,
                          "context_tokens": record.context_tokens, "architecture": record.architecture}))  # fmt: skip
    elif options.action == "digest":
        print(folder.digest)
    else:
        print(f"{record.alias}: {record.kind}, {record.architecture}, {record.context_tokens} tokens of context")
        print(f"  digest {folder.digest}\n  in {folder.path}")
    return 0


def _list(options: argparse.Namespace, config: Config) -> int:
    folders = store.list_models(config.cache_dir)
    aliases = {packaged.alias: packaged.note for packaged in registry.PACKAGED}
    if options.json:
        print(json.dumps({
            "aliases": aliases,
            "prepared": [
                {"digest": item.digest, "kind": item.manifest.facts.kind, "source": item.manifest.source}
                for item in folders
            ],
        }))  # fmt: skip
        return 0
    print("aliases (any Hugging Face id, local folder or .gguf file works too)")
    for alias, words in aliases.items():
        print(f"  {alias:24} {words}")
    print("prepared")
    for folder in folders:
        print(f"  {folder.digest[:16]}  {folder.manifest.facts.kind:15} {folder.manifest.source}")
    if not folders:
        print("  none yet: ndn-infer models prepare")
    return 0
