"""Conversations that go on by name: where they were left, by whoever may, on any machine.

Owns: from a saved conversation to one that is asked and back, when a new state is a branch. Must not know: how objects
are published and found (saved.py), terminals.

A state names the one that it went on from. The newest state of a label is its object's newest version; what somebody
else saved under the same label meanwhile is never replaced: then ours becomes a branch, with a label of its own. The
conversation of another user goes on as a branch below one's own name, since nobody signs below the name of others.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass

from ndn_infer.config import Config
from ndn_infer.errors import FetchIncomplete, NetworkError, StorageError, Timeout, TrustError
from ndn_infer.library.chat import Chat, ChatParts
from ndn_infer.library.saved import LoadedChat, SavedAs, SavedChats
from ndn_infer.records.chat import ChatMessage, ChatRecord
from ndn_infer.security.domains import PUBLIC

log = logging.getLogger(__name__)

MAX_LABEL = 56


@dataclass(frozen=True, slots=True)
class Continued:
    """`chat` goes on; a new state is saved as `label`. `found` is where it was left, None for one that begins."""

    chat: Chat
    label: str
    found: LoadedChat | None = None


@dataclass(frozen=True, slots=True)
class Conversations:
    """Of one machine's user."""

    saved: SavedChats
    config: Config

    async def load(self, name: str, domain: str = PUBLIC.label) -> Chat:
        """A saved conversation to go on with. It goes on in the domain in which it was saved; what was saved in public
        goes on in `domain`. Raises as SavedChats.load."""
        return self._chat(await self.saved.load(name, domain=domain), domain)

    async def go_on(self, name: str, parts: ChatParts, label: str = "") -> Continued:
        """The conversation of this name, or a new one of `parts` where a label of ours has none. Its next state is
        saved as `label`, by default under the same label, below our own name. Raises as SavedChats.load."""
        label = label or self.saved.label_of(name)
        try:
            found = await self.saved.load(name, domain=parts.domain)
        except FetchIncomplete as error:
            if name.startswith("/") or isinstance(error.__cause__, Timeout):  # silence is no word that there is none
                raise
            return Continued(Chat(parts), label)
        return Continued(self._chat(found, parts.domain), label, found)

    async def keep(self, continued: Continued, repo: str = "") -> tuple[SavedAs, str]:
        """The new state, and its label: another one where somebody saved under this label meanwhile, or may have: what
        is there cannot be read, or not be believed. Raises as SavedChats.save."""
        chat, label = continued.chat, continued.label
        try:
            newest = await self.saved.newest(label, chat.domain)
            branches = bool(newest) and newest != chat.source
        except NetworkError:
            branches = False
        except (StorageError, TrustError) as error:
            log.warning("what is saved as %r is left as it is: %s", label, error)
            branches = True
        if branches:
            label = f"{label[:MAX_LABEL]}-{secrets.token_hex(3)}"
        return await self.save(chat, label, repo), label

    async def save(self, chat: Chat, label: str, repo: str = "") -> SavedAs:
        """As SavedChats.save."""
        done = await self.saved.save(label, record_of(chat), domain=chat.domain, repo=repo)
        chat.source = done.name
        return done

    def _chat(self, found: LoadedChat, domain: str) -> Chat:
        goes_on_in = domain if found.domain == PUBLIC.label else found.domain
        record = found.record
        return Chat(
            ChatParts(self.saved.client, self.config, record.model, goes_on_in), list(found.messages),
            turn=((), record.holders), steps=list(record.steps), source=found.name,
        )  # fmt: skip


def record_of(chat: Chat) -> ChatRecord:
    """What is saved of a conversation. Raises BadRecord."""
    said, (_, holders) = tuple(map(ChatMessage.of, chat.messages)), chat.turn
    return ChatRecord(chat.model, said, chat.source, tuple(chat.steps), holders)
