"""A chat: questions and commands in, answers out, until the lines end.

Owns: what each command does and says. Must not know: where lines come from, how anything is answered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ndn_infer.apps.chat_lines import ChatCommand, Lines, parse
from ndn_infer.apps.kept_words import words_of_unkept
from ndn_infer.apps.summary import brief_line, resting_lines
from ndn_infer.apps.watching import Waiting
from ndn_infer.console.terminal import one_line
from ndn_infer.errors import Blocked, NdnInferError, PromptError, UsageError
from ndn_infer.library.blocking import SyncChat, SyncNetwork
from ndn_infer.library.continuing import Continued
from ndn_infer.library.overflow import words_of_step
from ndn_infer.library.parameters import HowToAnswer
from ndn_infer.library.saved import SavedAs
from ndn_infer.security.domains import PUBLIC

HELP: Final = """\
  a line           a question; ends it in a backslash, it goes on in the next line
  //text           a question that begins with a slash
  /names           what the last answer rests on: names, where they came from, keys that signed
  /save NAME       publish this conversation under a name of yours
  /load NAME       go on with a saved one: a name of yours, or the whole name of another user's
  /model [MODEL]   which model is asked, or ask another one from now on
  /reset           forget what was said
  /help, /quit
  Ctrl-C ends an answer, Ctrl-D the chat"""


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """`system`: None for that of the configuration. `repo` as of Network.save."""

    how: HowToAnswer
    system: str | None
    domain: str
    repo: str
    quiet: bool


class ChatSession:
    """One user's chat in a network."""

    def __init__(self, network: SyncNetwork, options: ChatOptions, lines: Lines) -> None:
        self._network = network
        self._options = options
        self._lines = lines
        self._chat = self._new()
        self._unkept: set[str] = set()
        """Names that this process alone keeps."""
        self._continued: Continued | None = None
        """What is saved after each answer."""
        self._status = 0
        self._commands: dict[str, Callable[[str], None]] = {
            "help": lambda _: print(HELP, flush=True),
            "names": self._names,
            "save": self._save,
            "load": self._load,
            "reset": self._reset,
            "model": self._model,
        }

    def go_on(self, name: str, label: str = "") -> None:
        """Go on with a saved conversation, or begin one of this label, and save it after each answer. Raises as
        Network.go_on."""
        continued = self._continued = self._network.go_on(name, label=label, domain=self._options.domain)
        if continued.found is None:
            self._continued = replace(continued, chat=self._chat.chat)
            self._say(f"a new conversation, saved as {continued.label} after each answer")
        else:
            self._take_up(SyncChat(self._network.thread, continued.chat))

    def run(self, load: str = "") -> int:
        """Until the lines end; the status of a command. In a terminal an error is read by who made it; without one,
        the status is that of the last error."""
        if load:
            self._load(load)
        self._say(f"{self._chat.chat.model} at {self._network.uri}; /help lists commands, Ctrl-D ends the chat")
        while True:
            try:
                text = self._lines.read()
                if text is None or parse(text) in (ChatCommand("quit"), ChatCommand("exit")):
                    break
                self._take(text)
            except KeyboardInterrupt:
                print(file=sys.stderr)
                self._say("Ctrl-D ends the chat")
            except NdnInferError as error:
                self._fail(error)
        return self._end()

    def _take(self, text: str) -> None:
        taken = parse(text)
        if isinstance(taken, ChatCommand):
            command = self._commands.get(taken.name)
            if command is None:
                raise UsageError(f"there is no command /{taken.name}", hint="/help lists them; //text asks /text")
            command(taken.argument)
        elif taken.strip():
            self._ask(taken)

    def _end(self) -> int:
        if self._lines.terminal:
            print(flush=True)
        for name in sorted(self._unkept):
            self._say(f"gone with this chat, as no repo keeps it: {name}")
        return 0 if self._lines.terminal else self._status

    # ------------------------------------------------------------ answers

    def _ask(self, text: str) -> None:
        waiting, steps = Waiting(lines=False, quiet=self._options.quiet), len(self._chat.chat.steps)
        reply = self._chat.ask(text, on_progress=waiting, **self._options.how)
        try:
            for piece in reply:
                waiting.over()
                sys.stdout.write(piece)
                sys.stdout.flush()
        except KeyboardInterrupt:
            waiting.over()
            self._line_end(reply.text)
            self._say("stopped; what was said so far is part of the conversation" if reply.text else "stopped")
            return
        except NdnInferError:
            waiting.over()
            self._line_end(reply.text)
            raise
        self._line_end(reply.text or " ")
        if reply.reply.answer is not None and (stop := reply.reply.answer.stopped) is not None:
            self._after(steps)
            raise Blocked(f"the answer was stopped: {stop.words}", rules=stop.rules)
        if reply.reply.answer is not None:
            self._say(brief_line(reply.reply.answer))
        self._network.remember(reply)
        self._after(steps)

    def _after(self, steps: int) -> None:
        """What was done to fit the model's context, and the new state."""
        chat = self._chat.chat
        for step in chat.steps[steps:]:
            self._say(words_of_step(step))
        if self._continued is not None and self._continued.chat is chat:
            saved, label = self._network.keep(self._continued, repo=self._options.repo)
            if label != self._continued.label:
                self._continued = replace(self._continued, label=label)
                self._say("somebody else went on with it meanwhile: this is a branch now")
            self._say(f"saved: {saved.name}")
            self._told(saved)

    def _line_end(self, text: str) -> None:
        if text:
            print(flush=True)

    # ------------------------------------------------------------ commands

    def _names(self, _: str) -> None:
        reply = self._chat.chat.reply
        if reply is None or reply.answer is None:
            raise UsageError("nothing was answered yet")
        print("\n".join(f"  {line}" for line in resting_lines(reply.answer, self._network.uri)), flush=True)

    def _save(self, label: str) -> None:
        if not label:
            raise UsageError("under which name? /save NAME", hint="letters, digits, '.', '_' and '-', 64 at most")
        saved = self._network.save(self._chat, label, repo=self._options.repo)
        print(f"  saved: {saved.name}", flush=True)
        sealed = self._chat.chat.domain != PUBLIC.label
        self._say("sealed: members of the domain can read it" if sealed else "everybody in this network can read it")
        self._told(saved)

    def _told(self, saved: SavedAs) -> None:
        """Whether it stays."""
        self._unkept = {name for name in self._unkept if _base(name) != _base(saved.name)}
        if saved.kept:
            self._say("a repo keeps it: load it by this name at any machine of the network")
        else:
            self._unkept |= {saved.name} if saved.file is None else set()
            for line in words_of_unkept(saved, "this chat"):
                self._say(line)

    def _load(self, label: str) -> None:
        if not label:
            raise UsageError("which one? /load NAME")
        self._take_up(self._network.load(label, domain=self._options.domain))
        self._left()

    def _take_up(self, chat: SyncChat) -> None:
        self._chat = chat
        messages = self._chat.messages
        print(f"  loaded: {len(messages)} messages, model {self._chat.chat.model}", flush=True)
        if self._chat.chat.domain != PUBLIC.label:
            self._lines.keep_nothing()
            self._say(f"asked privately, in domain {self._chat.chat.domain}")
        for message in messages[-2:]:
            print(f"  {message.role}: {message.content}", flush=True)

    def _reset(self, _: str) -> None:
        model = self._chat.chat.model
        self._chat = self._new()
        self._chat.chat.model = model
        self._say("what was said is forgotten")
        self._left()

    def _left(self) -> None:
        """The conversation that was saved after each answer is not the one that is asked any more."""
        if self._continued is not None:
            self._continued = None
            self._say("nothing is saved from here on: /save NAME")

    def _model(self, alias: str) -> None:
        chat = self._chat.chat
        if alias:
            record = self._network.resolve(alias)
            if record.kind != "causal-lm":
                raise UsageError(f"{alias} is a model of kind {record.kind}, and answers nothing")
            chat.model = alias
        print(f"  model: {chat.model}", flush=True)

    # ------------------------------------------------------------ words

    def _new(self) -> SyncChat:
        return self._network.conversation(system=self._options.system, domain=self._options.domain)

    def _say(self, text: str) -> None:
        if not self._options.quiet:
            print(f"  {text}", file=sys.stderr, flush=True)

    def _fail(self, error: NdnInferError) -> None:
        self._status = error.exit_code
        print(f"  {one_line(str(error))}", file=sys.stderr)
        if error.hint:
            print(f"  {one_line(error.hint)}", file=sys.stderr)
        if isinstance(error, PromptError) and self._chat.messages:
            print("  or /reset: what was said before is part of the prompt", file=sys.stderr)
        sys.stderr.flush()


def _base(name: str) -> str:
    """Without the version."""
    return name.rpartition("/")[0]
