"""A joined network, as a program uses it: conversations, documents, any object by name.

    async with ndn_infer.connect() as network:
        async for piece in network.chat("What is the capital of France?"):
            print(piece, end="")

Owns: the connection of a program that asks. Must not know: terminals, how anything is computed; torch is not imported.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Unpack

from ndn_infer import config as configuration
from ndn_infer import ndn
from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.errors import FetchIncomplete, UsageError
from ndn_infer.evidence.live.remember import evidence_of, remember, remember_whole
from ndn_infer.files import path_of
from ndn_infer.functions.registry import ROLES
from ndn_infer.library import retrieval
from ndn_infer.library.chat import Chat, ChatParts, ChatReply
from ndn_infer.library.continuing import Continued, Conversations
from ndn_infer.library.documents import Documents
from ndn_infer.library.joining import Embedded, WantedNetwork, join
from ndn_infer.library.parameters import HowToAsk
from ndn_infer.library.saved import SavedAs, SavedChats
from ndn_infer.local.network import CommonFlags, ServedParts, helpers
from ndn_infer.namespace import classify
from ndn_infer.node.keys import USER, ensure_keys
from ndn_infer.node.networks import settle
from ndn_infer.node.node import Node
from ndn_infer.records import Message, ModelRecord
from ndn_infer.security.domain_store import DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NamedObject:
    """An object, every byte verified. `name` is its versioned name (URI), `kind` which kind of name that is, `source`
    where it came from, `signer` the name of the key that signed it."""

    name: str
    kind: str
    content: bytes
    source: str
    signer: str


@dataclass(frozen=True, slots=True)
class HowToConnect:
    """`model`: alias, Hugging Face id, folder, .gguf file or digest; empty: that of the configuration. `embedded`:
    whether to bring up an embedded network (joining.Embedded). `settings` are options, as {"fetch.deadline_s": 10};
    `config_file` as --config of the command."""

    model: str = ""
    embedded: Embedded = "never"
    settings: Mapping[str, object] = field(default_factory=dict)
    config_file: Path | None = None
    quiet: bool = True
    news: Callable[[str], None] = log.info

    def flags(self) -> CommonFlags:
        return CommonFlags(self.config_file, [f"{key}={value}" for key, value in self.settings.items()])

    def config(self) -> Config:
        """Raises ConfigError."""
        flags = self.flags()
        return settle(configuration.load(file=self.config_file, environment=os.environ, flags=flags.settings))


class Connection:
    """`async with` it: the network. Nothing is done before."""

    def __init__(self, how: HowToConnect) -> None:
        self._how = how
        self._ends = AsyncExitStack()

    async def __aenter__(self) -> Network:
        """Raises NoForwarder, ConfigError, StorageError; with an embedded network ChildFailed, UnknownModel."""
        try:
            return await self._open()
        except BaseException:
            await self._ends.aclose()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await self._ends.aclose()

    async def _open(self) -> Network:
        from ndn_infer.local.prepare import network_name

        how = self._how
        config = how.config()
        roles = (USER,) if how.embedded == "never" else ROLES
        keychain = await asyncio.to_thread(ensure_keys, config, roles)
        model = await asyncio.to_thread(network_name, config, how.model or config.ask.model, quiet=how.quiet)
        wanted = WantedNetwork(
            model, how.embedded, policy=config.ask.policy, flags=how.flags(), quiet=how.quiet, news=how.news
        )
        joined = await join(config, keychain, wanted, self._ends)
        client = await self._ends.enter_async_context(Client(joined.node))
        if config.ask.policy:
            await client.demand(config.ask.policy)
        return Network(joined.node, client, model, how.flags(), joined.own)


@dataclass(slots=True, eq=False)
class Network:
    """What `connect` gives: one connection, for as many conversations at once as are wanted."""

    node: Node
    client: Client
    model: str
    """The model that is asked where none is named."""
    flags: CommonFlags
    own: bool = False
    """Whether it is an embedded network, which ends with the connection."""

    @property
    def uri(self) -> str:
        """Of the forwarder."""
        return self.node.uri

    def chat(self, text: str, *, model: str = "", **how: Unpack[HowToAsk]) -> ChatReply:
        """The answer to one question, asked in public."""
        return self.conversation(model=model).ask(text, **how)

    def conversation(
        self, *, model: str = "", system: str | None = None, domain: str = "", messages: Sequence[Message] = ()
    ) -> Chat:
        """A new one, after `messages`. With the name of a tenant domain of this machine everything is asked privately
        there. `system`: None is the option ask.system. Raises UsageError for a domain that is not known here."""
        label = self._label(domain)
        system = self.node.config.ask.system if system is None else system
        first = [Message("system", system)] if system else []
        return Chat(ChatParts(self.client, self.node.config, model or self.model, label), [*first, *messages])

    @asynccontextmanager
    async def documents(self, corpus: str | Path, *, model: str = "") -> AsyncIterator[Documents]:
        """A folder of this machine, or the alias of a corpus that the network serves, to be asked. A folder is served
        as long as the block lasts, where it is not already; a `str` is a folder when there is one of that name."""
        parts = ChatParts(self.client, self.node.config, model or self.model)
        folder = _folder(corpus)
        conversation = self.client.conversation()
        if folder is None:
            yield Documents(parts, await conversation.resolve_corpus(str(corpus)))
            return
        record = await asyncio.to_thread(retrieval.corpus_of, folder, self.node.config, quiet=True)
        ask, uri = self.node.config.ask, self.node.uri
        serving = await retrieval.served(
            record, folder, conversation, lambda text: None,
            lambda functions: helpers(ServedParts(functions, [ask.model], ask.embedder, folder), self.flags, uri),
        )  # fmt: skip
        try:
            yield Documents(parts, record)
        finally:
            if serving is not None:
                await serving.stop()

    async def resolve(self, alias: str) -> ModelRecord:
        """What the operator signed about a model. Raises UnknownModel, BadName, a NetworkError, a TrustError."""
        return await self.client.conversation().resolve_model(alias)

    async def save(self, chat: Chat, label: str, *, repo: str = "") -> SavedAs:
        """Publish a conversation under a name; where a repo is (of this machine, or `repo`), it keeps it. Everybody in
        the network can read it, unless the conversation is in a tenant domain. Raises as SavedChats.save."""
        return await self.conversations.save(chat, label, repo)

    async def load(self, label: str, *, domain: str = "") -> Chat:
        """A saved conversation, to go on with: by its label, or by its name, as `save` gives it. It goes on in the
        domain in which it was saved; what was saved in public goes on in `domain`. Raises as SavedChats.load."""
        return await self.conversations.load(label, self._label(domain))

    async def go_on(self, name: str, *, label: str = "", domain: str = "", model: str = "") -> Continued:
        """The conversation of this name, whose next state `keep` saves; a new one where a label of ours has none.
        Raises as Conversations.go_on."""
        parts = ChatParts(self.client, self.node.config, model or self.model, self._label(domain))
        return await self.conversations.go_on(name, parts, label)

    async def keep(self, continued: Continued, *, repo: str = "") -> tuple[SavedAs, str]:
        """As Conversations.keep."""
        return await self.conversations.keep(continued, repo)

    async def evidence(self, reply: ChatReply) -> bytes:
        """All that an answer rests on, as far as it can be had now: a file for 'ndn-infer explain --bundle' (docs/
        explain.md). Its context record is kept on this machine, unless ask.context is off. Raises UsageError for an
        answer that has not ended."""
        answer = reply.answer
        if answer is None or not answer.finish or not answer.stream_name:
            raise UsageError("this answer has not ended, so nothing can be said of it", hint="read it to its end")
        return (await evidence_of(self.node, answer, await remember(self.node, answer))).encode()

    async def remember(self, reply: ChatReply) -> None:
        """Keep a record of what was asked on this machine, for 'ndn-infer explain --last', unless ask.context is off;
        with all that the answer rests on where this network ends with us. What has not ended is not kept."""
        answer = reply.answer
        if answer is None or not answer.finish:
            return
        made = await remember(self.node, answer)
        if made is not None and self.own:
            await remember_whole(self.node, await evidence_of(self.node, answer, made))

    @property
    def conversations(self) -> Conversations:
        """Those that this machine's user saved, and those of others."""
        return Conversations(SavedChats(self.node, self.client), self.node.config)

    def _label(self, domain: str) -> str:
        if domain in ("", PUBLIC.label):
            return PUBLIC.label
        return tenant_of(DomainStore(self.node.config.keys_dir).find(domain)).newest.label

    async def get(self, name: str, *, most: int = MAX_OBJECT_BYTES) -> NamedObject:
        """The object of this name (URI): of its newest version, or of the one that the name says. Raises BadName,
        FetchIncomplete where there is none, Timeout, Nacked, a TrustError; BadRecord for one of more than `most` bytes,
        of which none is fetched."""
        base, version = ndn.split_version(ndn.from_uri(name))
        found = await self.node.fetcher.discover(base, version=version)
        if found.manifest is None:
            raise FetchIncomplete(f"there is no {name}, its producer says")
        fetched = await self.node.fetcher.collect(found, most=most)
        kind = classify(self.node.net, base).kind
        return NamedObject(
            ndn.to_uri(fetched.name), kind.title if kind is not None else "object", fetched.content, fetched.source,
            ndn.to_uri(fetched.signed_by.key_name),
        )  # fmt: skip


def _folder(text: str | Path) -> Path | None:
    path = path_of(text)
    return path if path.is_dir() else None
