"""A prompt log: what was asked and answered, proven to be all of it, and readable until a user is erased.

ndn-infer log serve                       keep this site's log, until SIGINT or SIGTERM
ndn-infer log witness IDENTITY ...        watch logs of other sites: keep their checkpoints, sign what continues them
ndn-infer log checkpoint                  how many records, the root, who signed
ndn-infer log show [INDEX ...]            records in clear, on the log's machine; the last 20 unless told otherwise
ndn-infer log verify [--all]              the newest checkpoint against what was seen before and by witnesses
ndn-infer log receipt INDEX --out FILE    a COSE receipt for tools of others, with leaf and key beside it
ndn-infer log export --user USER          all records about a user, JSON lines, each with its receipt
ndn-infer log erase --user USER           destroy the user's key: nobody reads those records again

Which calls are recorded, where and by whom: recording.policies (docs/log.md).
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from ndn_infer.apps import log_read, log_serve
from ndn_infer.config import Config
from ndn_infer.errors import UsageError

READS = {
    "checkpoint": log_read.checkpoint,
    "show": log_read.show,
    "verify": log_read.verify,
    "receipt": log_read.receipt,
    "export": log_read.export,
    "erase": log_read.erase,
}
ACTIONS = ("serve", "witness", *READS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("what", nargs="*", metavar="INDEX|IDENTITY", help="show, receipt: records; witness: logs")
    parser.add_argument("--log", default="", metavar="IDENTITY", help="which log (default: the one of this machine)")
    parser.add_argument("--user", default="", help="export, erase: about whom, as the writer knew them")
    parser.add_argument("--as", dest="signer", default="node", choices=("node", "site", "operator"),
                        help="erase: whose key commands it")  # fmt: skip
    parser.add_argument("--all", action="store_true", help="verify: every entry, not the checkpoints alone")
    parser.add_argument("--out", type=Path, metavar="FILE", help="receipt, export: where to")
    parser.add_argument("--path", type=Path, metavar="FOLDER", help="serve, show, export: the log's files (default: "
                        "beside the keys)")  # fmt: skip
    parser.add_argument("--every", type=float, default=60.0, metavar="SECONDS", help="witness: how often it looks")
    parser.add_argument("--once", action="store_true", help="witness: look once, say what was found, and end")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="serve, witness: stop when standard input closes"
    )


def run(options: argparse.Namespace, config: Config) -> int:
    action = options.action
    if action in ("export", "erase") and not options.user:
        raise UsageError(f"about whom? ndn-infer log {action} --user USER")
    if action in ("serve", "witness"):
        return asyncio.run(log_serve.serve(options, config) if action == "serve" else log_serve.watch(options, config))
    return asyncio.run(READS[action](options, config))
