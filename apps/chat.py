"""A conversation in the terminal; every byte of it is named, signed and verified.

Uses a running network when there is one, otherwise brings up an embedded one for the duration, as 'ask' does. A line is
a question; one that ends in a backslash goes on in the next line. Ctrl-C ends an answer, Ctrl-D the chat. /help lists
the commands: /names shows what the last answer rests on, /save and /load keep a conversation by name, so that it goes
on at another machine. Without a terminal, questions and commands are read from standard input, one a line.

ndn-infer chat
ndn-infer chat --domain acme --load contract        privately, going on with a saved conversation
printf 'What is 2 + 2?\\nAnd 3 more?\\n' | ndn-infer chat --quiet
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from ndn_infer.apps.chat_lines import Lines
from ndn_infer.apps.chat_session import ChatOptions, ChatSession
from ndn_infer.apps.question import POLICY_HELP, add_sampling_arguments, sampling_given
from ndn_infer.config import Config
from ndn_infer.console.signals import ended_by_signals
from ndn_infer.errors import UsageError
from ndn_infer.library import Embedded
from ndn_infer.library.blocking import SyncNetwork
from ndn_infer.library.network import HowToConnect
from ndn_infer.library.parameters import HowToAnswer
from ndn_infer.security.domain_store import DomainStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="", help="alias, Hugging Face id, folder, .gguf file or digest")
    add_sampling_arguments(parser, without=("logprobs",))
    parser.add_argument("--system", help="system prompt")
    parser.add_argument("--domain", default="", metavar="NAME", help="ask and save privately, in a tenant domain")
    parser.add_argument("--load", default="", metavar="NAME", help="go on with a saved conversation")
    parser.add_argument("--continue", dest="go_on", default="", metavar="NAME",
                        help="the same, saved after each answer; a new one where your label has none")  # fmt: skip
    parser.add_argument("--branch", default="", metavar="LABEL", help="--continue: save it under another label")
    parser.add_argument("--repo", default="", metavar="IDENTITY", help="which repo keeps what is saved (default: ours)")
    parser.add_argument("--policy", metavar="POLICY", help=POLICY_HELP)
    parser.add_argument("--quiet", action="store_true", help="answers alone, no news on standard error")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--embedded", action="store_true", help="always bring up an embedded network")
    group.add_argument("--no-embedded", action="store_true", help="fail when no network is running")


def run(options: argparse.Namespace, config: Config) -> int:
    if options.branch and not options.go_on:
        raise UsageError("--branch is for --continue: a label for what goes on")
    if options.domain:
        DomainStore(config.keys_dir).find(options.domain)  # before anything is started
    how: HowToAnswer = sampling_given(options, config)
    # A private chat leaves no history in a file that no domain's key protects.
    lines = Lines(None if options.domain else config.data_dir / "chat_history")
    when: Embedded = "always" if options.embedded else "never" if options.no_embedded else "missing"
    settings = dict(text.split("=", 1) for text in options.settings)
    if options.policy is not None:
        settings["ask.policy"] = options.policy
    connect = HowToConnect(options.model, when, settings, options.config, options.quiet)
    if not options.quiet:
        connect = replace(connect, news=_say)
    chat = ChatOptions(how, options.system, options.domain, options.repo, options.quiet)
    with ended_by_signals(), SyncNetwork(connect) as network, lines:
        session = ChatSession(network, chat, lines)
        if options.go_on:
            session.go_on(options.go_on, options.branch)
        return session.run(options.load)


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
