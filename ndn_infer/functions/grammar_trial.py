"""A grammar compiled in a process of its own, which may take so much time and memory and no more: `python -m
ndn_infer.functions.grammar_trial` reads a Grammar record and prints, as one JSON text, what is wrong with it, "" for
nothing.

Owns: the bounds of that process, and what is tried. Must not know: who asks (grammar_check.py), models; a
grammar over bytes takes as much to compile as one over tokens. llguidance bounds most of what a hostile grammar costs,
and not all of it: intersections of patterns take minutes, and cannot be stopped within a process.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Final

from llguidance import LLTokenizer

from ndn_infer.engine.grammar_compile import compiled
from ndn_infer.errors import BadRecord, UsageError
from ndn_infer.records.codec import decode
from ndn_infer.records.grammar import Grammar

CPU_S: Final = 4
MEMORY_MIB: Final = 2048
STEPS: Final = 24
"""Bytes of an answer that are tried: what is too complex to be masked shows early or, with luck, not at all."""


def main() -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB << 20, MEMORY_MIB << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    words = ""
    try:
        grammar = decode(Grammar, sys.stdin.buffer.read())
        grammar.check()
        words = tried(grammar)
    except (BadRecord, UsageError) as error:
        words = str(error)
    sys.stdout.write(json.dumps(words))
    return 0


def tried(grammar: Grammar) -> str:
    """What is wrong with a grammar, "" for nothing. Raises UsageError."""
    tokenizer = LLTokenizer("byte")
    matcher = compiled(grammar, tokenizer)
    for _ in range(STEPS):
        mask = matcher.compute_bitmask()
        if matcher.is_error():
            return f"the grammar is too complex: {matcher.get_error().partition(';')[0].strip()}"
        allowed = [at for at in range(256) if mask[at // 8] >> at % 8 & 1]
        if not allowed:
            return "" if matcher.is_accepting() else "nothing can be said within the grammar"
        matcher.consume_token(allowed[len(allowed) // 2])
    return ""


if __name__ == "__main__":
    sys.exit(main())
