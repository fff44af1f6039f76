"""One vLLM instance, run by vLLM's own Python: `python -m tests.vllm.instance '{...}'`.

Reads one JSON line a command from standard input, prints one a result. Options of the engine are the argument.
Commands: {"do": "generate", "prompts": [[ids]], "tokens": n, "salts": [..]}, {"do": "counts"}, {"do": "end"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

PRINTED = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # vLLM prints; what it prints is no result

from vllm import LLM, SamplingParams  # noqa: E402


def say(what: dict[str, Any]) -> None:
    PRINTED.write(json.dumps(what) + "\n")
    PRINTED.flush()


def second(chosen: int, table: dict[int, Any]) -> tuple[int, float]:
    """The likeliest token beside the chosen one."""
    likely, token = max((item.logprob, token) for token, item in table.items() if token != chosen)
    return token, likely


def generate(llm: LLM, command: dict[str, Any]) -> dict[str, Any]:
    salts = command.get("salts") or [None] * len(command["prompts"])
    prompts: list[Any] = [
        {"prompt_token_ids": ids, **({"cache_salt": salt} if salt else {})}
        for ids, salt in zip(command["prompts"], salts, strict=True)
    ]
    params = SamplingParams(temperature=0.0, max_tokens=command.get("tokens", 8), logprobs=2, ignore_eos=True)
    began = time.monotonic()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    seconds = time.monotonic() - began
    answers = []
    for output in outputs:
        answer = output.outputs[0]
        ids = list(answer.token_ids)
        tables = list(zip(ids, answer.logprobs, strict=True))
        answers.append({
            "ids": ids, "logprobs": [table[token].logprob for token, table in tables],
            "seconds": [second(token, table) for token, table in tables], "cached": output.num_cached_tokens or 0,
        })  # fmt: skip
    return {"answers": answers, "seconds": seconds}


def counts(llm: LLM) -> dict[str, Any]:
    """Counters of /metrics by name."""
    values: dict[str, float] = {}
    for metric in llm.get_metrics():
        value = getattr(metric, "value", None)
        if isinstance(value, int | float):
            values[metric.name] = values.get(metric.name, 0) + value
    return {"counts": values}


def main() -> None:
    llm = LLM(**json.loads(sys.argv[1]))
    say({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "end":
            break
        say(generate(llm, command) if command["do"] == "generate" else counts(llm))
    llm.llm_engine.engine_core.shutdown()


if __name__ == "__main__":
    main()
