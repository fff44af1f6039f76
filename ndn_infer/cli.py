"""Entry point of `ndn-infer`: the parser, and the one border at which errors become words and exit codes.

Owns: global options, the list of subcommands, what the user sees when something fails. Must not know: what a command
does. Subcommands are imported only when they run, so `--help` is quick and a consumer needs no torch.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ndn_infer import __version__, apps, config
from ndn_infer.console.collector import settle_collector
from ndn_infer.console.logs import set_up_logging
from ndn_infer.console.terminal import one_line, safe_output
from ndn_infer.errors import NdnInferError, UsageError
from ndn_infer.node import networks
from ndn_infer.testbed import commands as testbed_commands

COMMANDS: Final = {
    "ask": "ask a question and stream the answer",
    "chat": "hold a conversation; save it by name and go on elsewhere",
    "gateway": "serve the OpenAI API in front of a running network",
    "up": "run a whole network on this machine: forwarder and producers",
    "produce": "run a producer of some functions, joined to the forwarder of the NDN client configuration",
    "forwarder": "run the embedded forwarder alone",
    "repo": "run a repo that stores objects by name, and send commands to a repo",
    "log": "run a prompt log or a witness of logs; show, verify, export, and erase a user",
    "cost": "what answers cost, from their signed receipts: tokens, CPU seconds, two bases of a price list",
    "eval": "evaluate a model; suites and scores as signed records that others reproduce",
    "get": "fetch a named object, verified",
    "explain": "what an answer rests on, link by link, verified; from the network or from a file",
    "audit": "compute an answer of the network again; check verdicts; list proven faults",
    "guard": "policies of guards: check, sign and show them, and try one on a text",
    "offers": "what producers say they can do now: free places, queues, measured speeds",
    "status": "faces, routes, Content Store, producers and their queues",
    "metrics": "what Prometheus and Grafana need: names, rules, a configuration, a dashboard",
    "domain": "tenant domains: cached state for members only; create, add, remove, join",
    "keys": "make, list, issue and import keys and certificates; choose the network in use",
    "models": "list, prepare, identify and publish models",
    "names": "explain a name of this network, or list the kinds of names",
    "bench": "run a benchmark; ends with one JSON line",
    "testbed": "run a scenario of several nodes on this machine",
    "config": "print the effective configuration and where each value comes from",
}

OF_THE_TESTBED: Final = frozenset({"bench", "testbed"})
"""Commands that stand in testbed/commands/; all others are applications, in apps/."""

OF_NO_NETWORK: Final = frozenset({"metrics", "names", *OF_THE_TESTBED})
"""Commands that make no network's name at the first start: they need none."""

EPILOG: Final = """exit status: 0 done; 2 wrong input; 3 the network did not answer; 4 something could not be verified;
5 model or engine missing; 6 a producer answered with an error; 7 disk; 8 a policy forbids it; 130 interrupted.

examples:
  ndn-infer ask "What is the capital of France?"
  ndn-infer up                                  # in one terminal; then ask in another
  ndn-infer ask --rag ./notes "When do we meet?"
  NDN_CLIENT_TRANSPORT=unix:///run/nfd/nfd.sock ndn-infer produce --functions decode,prefill"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ndn-infer",
        description="Inference by name: prompts, tokens, KV cache and answers as signed, cacheable named data.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ndn-infer {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help_text in COMMANDS.items():
        subparsers.add_parser(name, help=help_text, add_help=False)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The full parser of one subcommand."""
    folder = testbed_commands.__name__ if name in OF_THE_TESTBED else apps.__name__
    module = importlib.import_module(f"{folder}.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"ndn-infer {name}",
        description=(module.__doc__ or COMMANDS[name]).strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    common = parser.add_argument_group("common options")
    common.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    common.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="settings",
        help="set any option; 'ndn-infer config' lists them",
    )  # fmt: skip
    common.add_argument("-v", "--verbose", action="count", default=0, help="log what happens; twice: every packet")
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Never lets a traceback out, unless --debug asks for it."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        build_parser().parse_args(arguments)  # --help, --version, or an error that lists the commands
        return 2
    # Two engines on few cores: idle threads that spin steal the other's time (measured: 8.6 tokens/s with OpenMP's
    # default, 17 with this, 46 alone with either). Read by libgomp when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    with safe_output():
        return _run(arguments[0], arguments[1:])


def parse(command: str, arguments: Sequence[str]) -> argparse.Namespace:
    """The options of one command, which may stand before, between and behind its other arguments. What follows `--` is
    never an option."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    # argparse loses its way with '--' and options in between: what follows takes part under names that are no options.
    behind = {f"\0{place}": text for place, text in enumerate(arguments[end + 1 :])}
    options = command_parser(command).parse_intermixed_args([*arguments[:end], *behind])
    for key, value in vars(options).items():
        setattr(options, key, _named_back(value, behind))
    return options


def _named_back(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_named_back(item, names) for item in value]
    found = names.get(str(value)) if isinstance(value, str | Path) else None
    return value if found is None else type(value)(found)


def _run(command: str, arguments: Sequence[str]) -> int:
    options = parse(command, arguments)
    try:
        effective = config.load(file=options.config, environment=os.environ, flags=options.settings)
        if command not in OF_NO_NETWORK:
            effective = networks.settle(effective)
        set_up_logging(options.verbose, effective.log)
        settle_collector()
        status: int = options.run(options, effective)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NdnInferError as error:
        if options.debug:
            raise
        _print_error(error, as_json=getattr(options, "json", False))
        return error.exit_code
    except UnicodeError as error:
        if options.debug:
            raise
        print(f"ndn-infer: this text cannot be read or written here: {error}", file=sys.stderr)
        print("  texts are UTF-8; set LANG to a UTF-8 locale, or convert it with iconv", file=sys.stderr)
        return UsageError.exit_code
    except Exception as error:
        if options.debug:
            raise
        print(f"ndn-infer: internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print("  run it again with --debug and report what it prints", file=sys.stderr)
        return 1


def _print_error(error: NdnInferError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": {"kind": error.kind, "message": str(error), "hint": error.hint}}))
        return
    print(f"ndn-infer: {one_line(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"  {one_line(error.hint)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
