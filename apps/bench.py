"""Measure, with the peers in the same run; prints a table for people and ends with one JSON line.

ndn-infer bench ask        one prompt through the network against the same engine in process
ndn-infer bench forwarder  the embedded forwarder against NFD, where it is on PATH
"""

from __future__ import annotations

import argparse
import importlib
from typing import Final

from ndn_infer.config import Config

BENCHES: Final = {"ask": "ndn_infer.testbed.bench.ask", "forwarder": "ndn_infer.testbed.bench.forwarder"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument("--runs", type=int, default=3, help="repetitions")
    parser.add_argument("--full", action="store_true", help="also cells that take minutes or much memory")


def run(options: argparse.Namespace, config: Config) -> int:
    module = importlib.import_module(BENCHES[options.name])
    status: int = module.run(options, config)
    return status
