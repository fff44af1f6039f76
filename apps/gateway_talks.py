"""Conversations of the gateway's clients, by the names of its user.

Owns: which label a client's label becomes, saving after the answer, one state after the other in each. Must not know:
HTTP, how objects are published (library/).

Requests that come while another one of their conversation is answered go on from the same state as that: the first one
that ends is the conversation's next state, the others become branches, each with a label of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from ndn_infer import ndn
from ndn_infer.client import Answer, Conversation
from ndn_infer.errors import NdnInferError
from ndn_infer.gateway.refusal import Refusal, bad
from ndn_infer.library.chat import ChatParts
from ndn_infer.library.continuing import Continued, Conversations
from ndn_infer.library.overflow import PromptRoom, prompt_of
from ndn_infer.namespace import SavedChat
from ndn_infer.records import Message, ModelRecord
from ndn_infer.records.chat import ChatStep
from ndn_infer.records.tools import Tool
from ndn_infer.security.domains import PUBLIC

log = logging.getLogger(__name__)

MAX_OPEN = 1024
OWNER_DIGITS = 12


@dataclass(slots=True)
class GatewayTalk:
    talks: GatewayTalks
    continued: Continued
    messages: tuple[Message, ...]
    key: tuple[str, str]
    name: str
    step: ChatStep | None = None

    async def prompt(
        self, conversation: Conversation, model: ModelRecord, tools: Sequence[Tool], room: int
    ) -> tuple[int, ...]:
        chat = self.continued.chat
        conversation.turn, chat.model = chat.turn, model.alias
        last = chat.steps[-1] if chat.steps else None
        wanted = PromptRoom(chat.parts.config.ask.overflow, max(1, min(room, model.context_tokens // 4)), tools)
        ids, self.step = await prompt_of(conversation, model, [*chat.messages, *self.messages], last, wanted)
        return ids

    def over(self, answer: Answer) -> None:
        self.talks.keep(self, answer)


@dataclass(slots=True)
class GatewayTalks:
    conversations: Conversations
    _busy: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict)

    async def open(self, name: str, messages: Sequence[Message], domain: str, owner: str) -> GatewayTalk:
        """As NamedTalks.open. A key's labels are its own; what is public, or of its domain, it may go on with by its
        whole name."""
        saved, config = self.conversations.saved, self.conversations.config
        label = saved.label_of(name)
        if owner and not name.startswith("/"):
            name = label = f"{owner[:OWNER_DIGITS]}.{label}"
        elif owner:
            label = f"{owner[:OWNER_DIGITS]}.{label.rpartition('.')[2]}"
        key = (label, domain)
        while (before := self._busy.get(key)) is not None:
            await asyncio.wait([before])
        if len(self._busy) >= MAX_OPEN:
            raise Refusal(429, "this gateway is at its limit of conversations", code="busy", retry_after_s=1.0)
        self._may(name, domain)
        continued = await self.conversations.go_on(name, ChatParts(saved.client, config, "", domain), label)
        base = ndn.to_uri(saved.base(label, continued.chat.domain))
        return GatewayTalk(self, continued, tuple(messages), key, base)

    def _may(self, name: str, domain: str) -> None:
        """Raises Refusal for a conversation of another domain than the request's."""
        if not name.startswith("/"):
            return
        kind = SavedChat.parse(self.conversations.saved.node.net, ndn.split_version(ndn.from_uri(name))[0])
        wanted = {PUBLIC.label, domain.rpartition(".")[0] or domain}
        if kind is not None and (kind.domain.rpartition(".")[0] or kind.domain) not in wanted:
            raise bad("this conversation is of another domain than the request", "conversation")

    def keep(self, talk: GatewayTalk, answer: Answer) -> None:
        """What was said, and what had arrived of the answer, becomes the new state, once those before are saved."""
        if not answer.text:
            return
        chat = talk.continued.chat
        chat.messages = [*chat.messages, *talk.messages, Message("assistant", answer.text)]
        chat.turn = answer.conversation.turn
        if talk.step is not None and talk.step not in chat.steps:
            chat.steps.append(talk.step)
        task = asyncio.get_running_loop().create_task(self._keep(talk, self._busy.get(talk.key)))
        self._busy[talk.key] = task
        task.add_done_callback(lambda done: self._kept(talk.key, done))

    def _kept(self, key: tuple[str, str], done: asyncio.Task[None]) -> None:
        if self._busy.get(key) is done:
            del self._busy[key]

    async def _keep(self, talk: GatewayTalk, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            saved, label = await self.conversations.keep(talk.continued)
        except NdnInferError as error:
            log.error("a conversation could not be saved: %s", error)
            return
        if label != talk.continued.label:
            log.warning("%s went on meanwhile: this answer's branch is %s", talk.name, saved.name)
        if not saved.kept:
            where = "is on this machine alone" if saved.file is not None else "is there as long as this gateway runs"
            log.warning("%s %s: %s", saved.name, where, saved.why)

    async def close(self) -> None:
        """What is being saved is saved first."""
        await asyncio.gather(*self._busy.values(), return_exceptions=True)
