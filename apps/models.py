"""List the models that can be used here, prepare one, print its digest, show what is in it, or publish its alias.

ndn-infer models publish smollm2-135m-instruct    where the operator's key is: sign what the alias means; bundles that
                                                  'keys issue' makes afterwards carry it to producers
"""

from __future__ import annotations

import argparse
import json

from ndn_infer import catalog, ndn
from ndn_infer.config import Config
from ndn_infer.console.progress import ProgressLine
from ndn_infer.errors import UsageError
from ndn_infer.functions.registry import ROLES
from ndn_infer.local.prepare import full_digest, network_name, prepared, record_of
from ndn_infer.models import registry, store
from ndn_infer.models.store import ModelFolder
from ndn_infer.node.keys import ensure_keys
from ndn_infer.records import ModelRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=("list", "prepare", "digest", "show", "publish"),
        help="show: sizes, and what int8 and int4 weights cost; publish: sign what the alias means",
    )  # fmt: skip
    parser.add_argument("model", nargs="?", help="alias, Hugging Face id, folder or .gguf file")
    parser.add_argument("--force", action="store_true", help="prepare again even if it is there")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace, config: Config) -> int:
    if options.action == "list":
        return _list(options, config)
    folder = _folder(options, config)
    if options.action == "publish":
        return _publish(options, config, folder)
    record = record_of(folder, options.model or config.ask.model)
    if options.action == "show":
        return _show(folder, record, config, as_json=options.json)
    if options.json:
        print(json.dumps({"digest": folder.digest, "path": str(folder.path), "kind": record.kind,
                          "context_tokens": record.context_tokens, "architecture": record.architecture}))  # fmt: skip
    elif options.action == "digest":
        print(folder.digest)
    else:
        reads = f"{record.context_tokens} tokens of context" if record.context_tokens else f"{record.vocabulary} terms"
        print(f"{record.alias}: {record.kind}, {record.architecture}, {reads}")
        print(f"  digest {folder.digest}\n  in {folder.path}")
    return 0


def _folder(options: argparse.Namespace, config: Config) -> ModelFolder:
    model = full_digest(config, options.model or config.ask.model)
    if not options.force:
        return prepared(config, model, quiet=options.json)
    with ProgressLine(quiet=options.json) as progress:
        return store.prepare(model, config.cache_dir, progress=progress, force=True)


def _publish(options: argparse.Namespace, config: Config, folder: ModelFolder) -> int:
    """Raises MissingKey where the operator's key is not."""
    alias = network_name(config, options.model or config.ask.model, quiet=True)
    keychain = ensure_keys(config, ROLES)
    catalog.publish(config.catalog_dir, keychain, record_of(folder, alias))
    if options.json:
        print(json.dumps({"alias": alias, "digest": folder.digest, "network": ndn.to_uri(keychain.net)}))
    else:
        print(f"{alias} is {folder.digest} in network {ndn.to_uri(keychain.net)}")
        print("  producers on other machines get it with their next bundle: 'ndn-infer keys issue', then 'keys import'")
    return 0


def _show(folder: ModelFolder, record: ModelRecord, config: Config, *, as_json: bool) -> int:
    from ndn_infer.engine.model_config import FAMILIES, ModelConfig
    from ndn_infer.engine.rounding import rounding_errors

    if record.architecture not in FAMILIES:
        raise UsageError(
            f"{record.alias} is {record.architecture}, of which only the digest is known: {folder.digest}",
            hint=f"'models show' looks into models of {', '.join(FAMILIES)}",
        )
    model = ModelConfig.load(folder.path)
    of_token = 2 * model.layers * model.kv_heads * model.head_dim * (4 if config.engine.dtype == "fp32" else 2)
    found = rounding_errors(folder.path)
    facts = {
        "layers": model.layers, "hidden": model.hidden, "heads": model.heads, "kv_heads": model.kv_heads,
        "head_dim": model.head_dim, "vocabulary": model.vocab_size, "context_tokens": model.context_length,
        "kv_bytes_a_token": of_token, "kv_block_bytes": of_token * config.engine.block_tokens,
    }  # fmt: skip
    if as_json:
        rounding = {item.precision: {"mean": item.mean, "most": item.most, "mib": item.mib} for item in found}
        print(json.dumps({"digest": folder.digest, "architecture": record.architecture, **facts, "rounding": rounding}))
        return 0
    print(f"{record.alias}: {record.architecture}, digest {folder.digest}")
    for key, value in facts.items():
        print(f"  {key.replace('_', ' '):18} {value:,}")
    print("  weights in the layers, relative error of rounding (engine.weights)")
    for item in found:
        print(f"    {item.precision}  mean {item.mean:.4f}  worst {item.most:.4f}  {item.mib:,.0f} MiB")
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
