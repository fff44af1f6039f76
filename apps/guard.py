"""Policies of guards: check what was written, sign it, show it, try it on a text.

ndn-infer guard policy check FILE           what it says, its digest, what it holds back at most
ndn-infer guard policy sign FILE            the operator's word on what its name means, which guards here serve
ndn-infer guard policy show NAME|DIGEST|FILE     from the network, or from a file; --json: its canonical form
ndn-infer guard test POLICY FILE            which rules the text in FILE ('-': standard input) hits, and what is shown
                                            of it; rules that models of the network decide are named and not asked

A policy is demanded with 'ask --policy', 'chat --policy', gateway.policy, policy= of an API key: docs/guard.md.
Exit status of 'test': 8 where the text is blocked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ndn_infer import catalog
from ndn_infer.client.policies import find_policy, in_file, policy_in_file
from ndn_infer.config import Config
from ndn_infer.errors import EngineUnavailable, PolicyError, UsageError
from ndn_infer.functions.registry import ROLES
from ndn_infer.guard.policy import ANSWER, WHERE, GuardPolicy
from ndn_infer.guard.policy_form import KINDS, decode
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.records.guard import BLOCK, PolicyRecord

_PIECE = 16
"""Characters of an event in which `test` gives a text."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("policy", "test"))
    parser.add_argument("values", nargs="+", metavar="check|sign|show|POLICY|FILE", help="see above")
    parser.add_argument("--where", choices=WHERE, default=ANSWER, help="test: as a prompt or as an answer")
    parser.add_argument("--json", action="store_true", help="one JSON document (show, test)")


def run(options: argparse.Namespace, config: Config) -> int:
    values = options.values
    if len(values) != 2:
        raise UsageError("'guard policy' takes check, sign or show and one policy; 'guard test' a policy and a file")
    if options.action == "test":
        return _test(options, values[0], values[1])
    work = {"check": _check, "sign": _sign, "show": _show}.get(values[0])
    if work is None:
        raise UsageError(f"'guard policy' does not know {values[0]!r}: check, sign and show")
    return work(options, config, values[1])


def _check(options: argparse.Namespace, config: Config, file: str) -> int:
    print("\n".join(_words(decode(policy_in_file(Path(file))))))
    return 0


def _sign(options: argparse.Namespace, config: Config, file: str) -> int:
    """Raises MissingKey where the operator's key is not."""
    wire = policy_in_file(Path(file))
    policy = decode(wire)
    record = PolicyRecord(policy.name, policy.digest, wire)
    paths = catalog.publish(config.catalog_dir, ensure_keys(config, ROLES), record)
    print(f"{policy.name} is {policy.digest}")
    print(f"  guards that start on this machine serve it: {paths[0]}", file=sys.stderr)
    return 0


def _show(options: argparse.Namespace, config: Config, text: str) -> int:
    wire = in_file(text) or asyncio.run(_fetched(config, text))
    if options.json:
        print(wire.decode("utf-8"))
    else:
        print("\n".join(_words(decode(wire))))
    return 0


async def _fetched(config: Config, text: str) -> bytes:
    node = await Node.join(config, ensure_keys(config, ROLES))
    try:
        return await find_policy(text, node)
    finally:
        await node.close()


def _words(policy: GuardPolicy) -> Iterator[str]:
    names = {kind: name for name, kind in KINDS.items()}
    yield f"{policy.name}  {policy.digest}"
    yield f"  holds back {policy.hold_back} tokens at most; a longer match is {_LONGER[policy.past_hold_back]}"
    yield f"  a verdict holds {policy.valid_s:g} s and is waited for {policy.wait_s:g} s"
    yield f"  guards: {', '.join(policy.guards) or 'any role guard of the network'}"
    for rule in policy.rules:
        yield f"  {rule.id}: {names[type(rule)]}, {rule.action} in {' and '.join(rule.where)}"


_LONGER = {BLOCK: "blocked", "show": "shown in part"}


def _test(options: argparse.Namespace, name: str, file: str) -> int:
    policy = decode(policy_in_file(Path(name)))
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from error
    try:
        from ndn_infer.guard.judge import PolicyRules
        from ndn_infer.guard.trial import try_text
    except ModuleNotFoundError as error:
        raise EngineUnavailable(
            f"a guard needs the package {error.name}", hint="pip install 'ndn-infer[guard]'"
        ) from error
    tried = try_text(PolicyRules(policy, options.where), _pieces(text))
    if options.json:
        document = {"shown": tried.shown, "blocked": tried.blocked, "rules": tried.rules, "not_asked": tried.not_asked}
        print(json.dumps(document, ensure_ascii=False))
    else:
        print(tried.shown)
        _say_rules("not asked here, as models of the network decide", tried.not_asked)
        _say_rules("blocked by" if tried.blocked else "redacted by", tried.rules)
    return PolicyError.exit_code if tried.blocked else 0


def _say_rules(what: str, rules: Iterable[str]) -> None:
    if named := ", ".join(rules):
        print(f"  {what}: {named}", file=sys.stderr)


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE]
