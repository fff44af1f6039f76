"""Requests and answers on their way into a prompt log, where a policy wants them there.

Owns: what of a request and of an answer a record has. Must not know: how records are sealed and sent, HTTP.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ndn_infer.client import Answer
from ndn_infer.prompt_log.live.writers import LogWriters
from ndn_infer.prompt_log.said import ANSWERED, ASKED, ERROR, GONE, PromptRecord
from ndn_infer.records import Message
from ndn_infer.records.chat import ChatMessage

MAX_USER = 256


@dataclass(frozen=True, slots=True)
class WhoAsks:
    """`domain` is the label of the domain that is asked in; `user` who asks, as the log knows him."""

    domain: str
    user: str
    model: str


@dataclass(frozen=True, slots=True)
class LoggedRequests:
    writers: LogWriters

    async def asked(
        self, who: WhoAsks, messages: Sequence[Message] = (), prompts: Sequence[str | tuple[int, ...]] = ()
    ) -> Callable[[Answer], object] | None:
        """Records a request; what is to be called at the end of each of its answers, None where no policy wants it.
        Raises LogAway."""
        writer = self.writers.writer(who.domain)
        if writer is None:
            return None
        said = PromptRecord(
            ASKED, secrets.token_hex(8), 0, who.user[:MAX_USER], self.writers.by, who.model, who.domain, "generate"
        )  # fmt: skip
        for prompt in prompts or ("",):
            text, ids = (prompt, ()) if isinstance(prompt, str) else ("", prompt)
            kept = tuple(map(ChatMessage.of, messages))
            await writer.asked(replace(said, messages=kept, text=text, ids=ids))

        def over(answer: Answer) -> None:
            finish = answer.finish or (ERROR if answer.failed else GONE)
            stream, made = answer.stream_name, len(answer.ids)
            record = replace(said, kind=ANSWERED, text=answer.text, name=stream, finish=finish, tokens=made)
            writer.answered(record)

        return over
