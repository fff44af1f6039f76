"""Grammars over tokens: which tokens an answer may go on with.

Owns: grammars compiled for one model's tokenizer, within limits; where one answer stands in its grammar. Must not know:
how a token is chosen (sampler.py), streams, asyncio. llguidance is imported when the first grammar comes.

What a grammar allows after a token depends on the tokens before it and on nothing else, so an answer that is continued
elsewhere, recomputed or guessed ahead keeps its tokens. `Grammars.compile` may be called from any thread, all else from
the engine's.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ndn_infer.engine.sampler import Allowed
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.errors import EngineUnavailable, ModelError, UsageError
from ndn_infer.records.grammar import Grammar

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KEPT: Final = 16
"""Compiled grammars of one model, those used last."""


class TokenMatcher:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: LLMatcher, tokenizer: LLTokenizer, vocabulary: int) -> None:
        """`vocabulary`: how many logits the model has."""
        self.ends = frozenset(tokenizer.eos_tokens)
        """Tokens that end the answer; allowed where the grammar may end."""
        self._matcher = matcher
        self._bits = np.zeros(-(-tokenizer.vocab_size // 32), dtype=np.int32)
        self._vocabulary = vocabulary

    def allowed(self) -> Allowed:
        """[vocabulary] whether a token may come next. Raises ModelError where none may, or where it is not known within
        the limits."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            raise ModelError(f"the grammar is too complex: {self._matcher.get_error()}")
        bits = np.unpackbits(self._bits.view(np.uint8), count=self._vocabulary, bitorder="little")
        allowed = bits.view(np.bool_)
        if not allowed.any():
            raise ModelError("the answer cannot go on within its grammar")
        return allowed

    def accept(self, token: int) -> None:
        """The answer goes on with `token`, which is allowed, or ends with it."""
        if token in self.ends and self._matcher.is_stopped():
            return
        if not self._matcher.consume_token(token):
            raise ModelError(f"the grammar does not take token {token}: {self._matcher.get_error()}")

    def forced(self) -> list[int]:
        """Tokens that come next whatever the model computes, as far as that is known."""
        return list(self._matcher.compute_ff_tokens())

    def valid(self, tokens: Sequence[int]) -> int:
        """With how many of these the answer could go on, counted from the first; an end token ends it where nothing
        else may come."""
        if tokens and tokens[0] in self.ends and self._matcher.is_stopped():
            return 1
        return int(self._matcher.validate_tokens(list(tokens)))


class Grammars:
    """Of one model: its prepared `folder`, and the number of its logits."""

    def __init__(self, folder: Path, vocabulary: int) -> None:
        self._folder = folder
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[Grammar, LLMatcher] = OrderedDict()

    def compile(self, grammar: Grammar) -> None:
        """Make it ready for `matcher`; at once where it is. Takes a second for the first grammar of a model. Raises
        UsageError, in words for whoever asked; EngineUnavailable, ModelError."""
        self._prototype(grammar)

    def matcher(self, grammar: Grammar, answered: Sequence[int] = ()) -> TokenMatcher:
        """For one answer, which has the tokens `answered` already. Raises UsageError where these do not follow the
        grammar, and as `compile`."""
        matcher = self._prototype(grammar).deep_copy()
        if answered and matcher.try_consume_tokens(list(answered)) < len(answered):
            raise UsageError("the answer so far does not follow the grammar")
        assert self._tokenizer is not None
        return TokenMatcher(matcher, self._tokenizer, self._vocabulary)

    def _prototype(self, grammar: Grammar) -> LLMatcher:
        with self._lock:
            known = self._compiled.get(grammar)
            if known is not None:
                self._compiled.move_to_end(grammar)
                return known
            if self._tokenizer is None:
                self._tokenizer = _tokenizer_of(self._folder)
        from ndn_infer.engine.grammar_compile import compiled

        made = compiled(grammar, self._tokenizer)
        with self._lock:
            self._compiled[grammar] = made
            while len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        return made


def _tokenizer_of(folder: Path) -> LLTokenizer:
    try:
        from llguidance import LLTokenizer
    except ImportError as error:
        raise EngineUnavailable(f"grammars need a package that is not installed ({error})") from error
    ends = list(ChatTokenizer.load(folder).eos_ids)
    try:
        return LLTokenizer(str(folder / "tokenizer.json"), eos_token=ends or None)
    except Exception as error:  # it raises whatever is wrong with the file
        raise ModelError(f"the tokenizer of this model takes no grammars ({error})") from error
