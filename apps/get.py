"""Fetch a named object, every byte verified, to standard output or a file.

ndn-infer get /ndn-infer/local/catalog/model/smollm2-135m-instruct -o record.bin
ndn-infer get NAME | xxd | head              any object: a token block, a KV block, a passage, a sealed answer

ndn-infer get --unverified /lab/file        what ndnserve, ndnd or NDNts publish: signatures are not checked

NAME is an object's name, with or without its version and segment; without one the newest version is fetched. Says on
standard error what it is, who signed it and where it came from. Exit status 3: not found; 4: it did not verify.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.errors import FetchIncomplete, StorageError, UsageError
from ndn_infer.functions.registry import ROLES
from ndn_infer.namespace import classify
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.transport.objects.fetched import Fetched
from ndn_infer.transport.objects.foreign import fetch_foreign
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the object's name")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE instead of standard output")
    parser.add_argument("--quiet", action="store_true", help="the object alone")
    parser.add_argument(
        "--unverified", action="store_true",
        help="an object of other tools: check names and digests, accept any signature",
    )  # fmt: skip
    parser.add_argument("--exit-with-parent", action="store_true", help=argparse.SUPPRESS)


def run(options: argparse.Namespace, config: Config) -> int:
    base, version = split(ndn.from_uri(options.name))
    fetch = _fetch_foreign if options.unverified else _fetch
    content, words = asyncio.run(fetch(config, base, version))
    if not options.quiet:
        print("\n".join(words), file=sys.stderr)
    if options.output is not None:
        try:
            options.output.write_bytes(content)
        except OSError as error:
            raise StorageError(f"cannot write {options.output}: {error.strerror}") from error
    elif sys.stdout.isatty():
        sys.stdout.write(_text(content))
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    return 0


def split(name: Name) -> tuple[Name, int | None]:
    """An object's base name and version, out of the name of the object or of one of its packets."""
    parts = ndn.components(name)
    kinds = [ndn.component_type(part) for part in parts]
    if kinds and kinds[-1] == ndn.SEGMENT:
        parts, kinds = parts[:-1], kinds[:-1]
    version = None
    if kinds and kinds[-1] == ndn.VERSION:
        version, parts = ndn.component_number(parts[-1], ndn.VERSION), parts[:-1]
    if parts and parts[-1] == METADATA:
        parts = parts[:-1]
    if not parts:
        raise UsageError("this names no object", hint="'ndn-infer names' lists the kinds of names")
    return b"".join(parts), version


async def _fetch(config: Config, base: Name, version: int | None) -> tuple[bytes, list[str]]:
    async with await Node.join(config, ensure_keys(config, ROLES)) as node:
        found = await node.fetcher.discover(base, version=version)
        if found.manifest is None:
            raise FetchIncomplete(f"there is no {ndn.to_uri(base)}, its producer says")
        fetched = await node.fetcher.collect(found, most=MAX_OBJECT_BYTES)
        return fetched.content, _words(node.net, base, fetched)


async def _fetch_foreign(config: Config, base: Name, version: int | None) -> tuple[bytes, list[str]]:
    async with await Node.join(config, ensure_keys(config, ROLES)) as node:
        found = await fetch_foreign(node.endpoint, base, version=version)
    claims = ", ".join(map(ndn.to_uri, found.claims)) or "no key"
    return found.content, [
        ndn.to_uri(found.name),
        f"  NOT VERIFIED: {len(found.content)} bytes in {found.segments} segments, {found.digests} with a right digest",
        f"  signed, so its packets say, by {claims}",
    ]


def _words(net: Name, base: Name, fetched: Fetched) -> list[str]:
    kind = classify(net, base).kind
    return [
        ndn.to_uri(fetched.name),
        f"  {kind.title if kind is not None else 'object'}, {len(fetched.content)} bytes, from {fetched.source}",
        f"  signed by {ndn.to_uri(fetched.signed_by.key_name)}",
    ]


def _text(content: bytes) -> str:
    """Raises UsageError for what is no text: it could command the terminal."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(f"{len(content)} bytes that are not text", hint="-o FILE, or pipe them on: ... | xxd")
    return text if text.endswith("\n") else text + "\n"
