"""ask --continue: a question in a conversation that has a name.

Owns: where the question stands in it, what is said of its new state. Must not know: how an answer is read and printed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Self

from ndn_infer.apps.kept_words import words_of_unkept
from ndn_infer.apps.question import AskOptions
from ndn_infer.client import Answer, Client
from ndn_infer.client.answer_parts import AnswerParts
from ndn_infer.client.tool_use import ToolUse
from ndn_infer.errors import UsageError
from ndn_infer.library.chat import ChatParts, ChatTurn
from ndn_infer.library.continuing import Continued, Conversations
from ndn_infer.library.overflow import words_of_step
from ndn_infer.library.saved import SavedChats
from ndn_infer.node.node import Node
from ndn_infer.records import Message


@dataclass(slots=True)
class Talk:
    conversations: Conversations
    continued: Continued
    turn: ChatTurn
    answer: Answer

    @classmethod
    async def begin(
        cls, options: argparse.Namespace, question: AskOptions, client: Client, node: Node, model: str
    ) -> Self:  # fmt: skip
        """Its answer is to be read. Raises UsageError beside --rag, and as Conversations.go_on."""
        if question.corpora or question.folder is not None:
            raise UsageError("--continue asks a conversation, and --rag documents: one of both")
        conversations = Conversations(SavedChats(node, client), node.config)
        parts = ChatParts(client, node.config, model, question.domain)
        continued = await conversations.go_on(options.go_on, parts, options.branch)
        chat = continued.chat
        if options.model:
            chat.model = model
        if continued.found is None and question.system:
            chat.messages.append(Message("system", question.system))
        turn = ChatTurn(chat, (Message("user", question.text),), question.sampling, ToolUse(), AnswerParts(()))
        return cls(conversations, continued, turn, await turn.begin())

    async def keep(self) -> list[str]:
        """After the answer was read: the new state is saved; what a user is to know of it. Raises as
        Conversations.keep."""
        for _ in self.turn.said.take(self.answer.text, last=True):
            pass
        self.turn.ended()
        saved, label = await self.conversations.keep(self.continued)
        lines = [words_of_step(self.turn.step)] if self.turn.step is not None else []
        if label != self.continued.label:
            lines.append("somebody else went on with it meanwhile: this is a branch")
        lines.append(f"saved: {saved.name}")
        if not saved.kept:
            lines += words_of_unkept(saved, "this command")
        return lines
