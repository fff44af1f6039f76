"""Print the effective configuration and where each value comes from."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ndn_infer.config import ENVIRONMENT_PREFIX, Config, default_file, options, takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--explain", action="store_true", help="also say what each option means")


def run(arguments: argparse.Namespace, config: Config) -> int:
    if arguments.json:
        print(json.dumps(_document(config)))
        return 0
    print(
        f"# file: {arguments.config or default_file()}; environment: {ENVIRONMENT_PREFIX}SECTION_KEY; "
        "flag: --set section.key=value"
    )
    current = ""
    for section, key, _, help_text in options():
        if section != current:
            current = section
            print(f"\n[{section}]")
        if arguments.explain:
            words = takes(section, key)
            print(f"# {help_text}{f' ({words})' if words else ''}")
        value = getattr(getattr(config, section), key)
        origin = config.origins[f"{section}.{key}"]
        print(f"{f'{key} = {_toml(value)}':40}  # {origin}")
    print(f"\n# keys: {config.keys_dir}\n# cache: {config.cache_dir}\n# socket: {config.socket_path}")
    return 0


def _toml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str | bool | tuple) else str(value)


def _document(config: Config) -> dict[str, Any]:
    values = {
        f"{section}.{key}": {
            "value": getattr(getattr(config, section), key),
            "origin": config.origins[f"{section}.{key}"],
        }
        for section, key, _, _ in options()
    }
    return {"options": values, "keys_dir": str(config.keys_dir), "cache_dir": str(config.cache_dir)}
