"""Which network an application asks in: one that is running, or one that it brings up for itself.

Owns: this choice, and the end of what was brought up. Must not know: what is asked. Nothing here needs torch: the
producers of an embedded network are processes of their own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from ndn_infer import catalog
from ndn_infer.client import Client
from ndn_infer.client.policies import in_file
from ndn_infer.config import Config
from ndn_infer.errors import NoForwarder, UnknownModel, UsageError
from ndn_infer.guard.policy import ClassifierRule, TopicRule
from ndn_infer.guard.policy_form import decode
from ndn_infer.local.network import CommonFlags, EmbeddedNetwork, ServedParts, embedded
from ndn_infer.node.node import Node
from ndn_infer.security.keychain import Keychain

log = logging.getLogger(__name__)

Embedded = Literal["never", "missing", "always"]
"""When an embedded network is brought up: never; when none runs here that offers the model; always."""

FUNCTIONS: Final = ("tokenize", "prefill", "decode")
"""What answering takes."""


_JUDGES: Final = {TopicRule: "embed", ClassifierRule: "classify"}
"""The functions that a guard asks for these rules."""


def functions_of_policy(config: Config, text: str) -> tuple[str, ...] | None:
    """What an embedded network offers where this policy is demanded, "" being none; None for a name that nothing here
    says the meaning of. Raises UsageError for a file that is missing, unreadable or holds no policy."""
    if not text:
        return ()
    if (wire := in_file(text)) is None:
        record = catalog.known_policy(config.catalog_dir, text)
        if record is None:
            return None
        wire = record.policy
    rules = {type(rule) for rule in decode(wire).rules}
    return (*(function for kind, function in _JUDGES.items() if kind in rules), "guard")


@dataclass(frozen=True, slots=True)
class WantedNetwork:
    """What the network is to have. `model` is its name in the network (local.prepare.network_name); with `folder`
    an embedded network serves that corpus too."""

    model: str
    embedded: Embedded = "never"
    folder: Path | None = None
    corpora: tuple[str, ...] = ()
    """Aliases of corpora, which only a running network can serve."""
    corpus_domain: str = ""
    """The tenant domain that the folder is served in; "": in the open."""
    policy: str = ""
    """What guards judge by (file, alias or digest), where one is demanded."""
    flags: CommonFlags = field(default_factory=CommonFlags)
    quiet: bool = False
    news: Callable[[str], None] = log.info


@dataclass(slots=True)
class JoinedNode:
    """A joined node. `own`: whether its network is an embedded one, which ends with it."""

    node: Node
    own: bool


async def join(config: Config, keychain: Keychain, wanted: WantedNetwork, ends: AsyncExitStack) -> JoinedNode:
    """Join the running network or, as `wanted` says, an embedded one; `ends` closes both. Raises NoForwarder when there
    is none and none is to be brought up, ChildFailed, what `prepared` raises; UsageError for a policy that is no file
    here, before anything starts."""
    guarding = await asyncio.to_thread(functions_of_policy, config, wanted.policy)
    node = None if wanted.embedded == "always" else await _running(config, keychain, wanted)
    own = node is None
    if node is None:
        network = await _bring_up(config, wanted, guarding)
        ends.push_async_callback(network.stop)
        node = await Node.join(config, keychain, uri=network.uri)
    ends.push_async_callback(node.close)
    return JoinedNode(node, own)


async def _running(config: Config, keychain: Keychain, wanted: WantedNetwork) -> Node | None:
    """A network that is up and knows the model; None when an embedded one is to be made."""
    named = bool(config.network.transport or os.environ.get("NDN_CLIENT_TRANSPORT"))
    must = named or wanted.embedded == "never"
    try:
        node = await Node.join(config, keychain)
    except NoForwarder:
        if must:
            raise
        return None
    if must:
        return node
    try:
        async with Client(node) as client:
            await client.conversation().resolve_model(wanted.model)
    except UnknownModel:
        await node.close()
        log.info("the network at %s does not offer %s; starting an embedded one", node.uri, wanted.model)
        return None
    except BaseException:
        await node.close()
        raise
    return node


async def _bring_up(config: Config, wanted: WantedNetwork, guarding: tuple[str, ...] | None) -> EmbeddedNetwork:
    from ndn_infer.local.prepare import prepared

    if guarding is None:
        raise UsageError(
            f"there is no policy file {wanted.policy}, no policy of that name on this machine, and no running network",
            hint="give a file, or sign it: ndn-infer guard policy sign FILE",
        )

    if wanted.corpora:
        raise UsageError(
            f"there is no folder {wanted.corpora[0]}, and no running network that serves a corpus of that name"
        )
    rag = ("embed", "rag", "cite") if wanted.folder is not None else ()
    functions = list(dict.fromkeys((*FUNCTIONS, *rag, *guarding)))
    await asyncio.to_thread(prepared, config, wanted.model, quiet=wanted.quiet)
    wanted.news("starting an embedded network: forwarder, " + ", ".join(functions))
    served = ServedParts(
        functions, [wanted.model], config.ask.embedder, wanted.folder, corpus_domain=wanted.corpus_domain
    )
    network = embedded(config, served, wanted.flags, private=True)
    await network.start()
    return network
