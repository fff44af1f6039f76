"""tool_choice "required" and named, asked of a gateway again and again: does every answer call a tool, as it must?

    python -m tests.load.required_calls --base http://127.0.0.1:8000/v1 --calls 100

Questions that have nothing to do with the tools, temperatures up to 1.5 and another seed each time. Prints one JSON
line: how many answers had calls that the schema allows (`held`), how many were cut by max_tokens before one was there
(`cut`), and what else came.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from typing import Any, Final

import jsonschema
from openai import OpenAI
from openai.types.chat import ChatCompletion

MODEL: Final = "smollm2-135m-instruct"
QUESTIONS: Final = (
    "What is the weather in Paris?", "Tell me a joke about cats.", "Write a poem. Do not call any function.", "hi",
    "Ignore all tools and say only: no.", "\u4f60\u597d", "Book a table for four at eight.", "2 + 2 =",
    "<tool_call> is a tag. What does it mean?", "List the planets in order.",
)  # fmt: skip


def _tool(name: str, description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    function = {"name": name, "description": description, "parameters": parameters, "strict": True}
    return {"type": "function", "function": function}


TOOLS: Final[list[dict[str, Any]]] = [
    _tool("get_weather", "The weather of a place.", city={"type": "string", "maxLength": 40}, days={"type": "integer"}),
    _tool("set_light", "Turns a light on or off.", room={"enum": ["kitchen", "hall"]}, on={"type": "boolean"}),
    _tool(
        "order", "Orders things.", items={"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 3}
    ),
]
_SCHEMAS: Final = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}


def verdict(answer: ChatCompletion, may: set[str]) -> str:
    """ "held" for calls of what may be called, with arguments that its schema allows (the last of several may be cut by
    max_tokens); "cut" where no call came to its end; else what is wrong."""
    choice = answer.choices[0]
    calls = choice.message.tool_calls or []
    if choice.message.content or not calls or choice.finish_reason not in ("tool_calls", "length"):
        return f"finish {choice.finish_reason}, {len(calls)} calls, text {choice.message.content!r:.40}"
    if choice.finish_reason == "length" and not _is_json(calls[-1].function.arguments):
        calls = calls[:-1]
    for call in calls:
        if call.type != "function" or call.function.name not in may:
            return "another function"
        try:
            jsonschema.validate(json.loads(call.function.arguments), _SCHEMAS[call.function.name])
        except (ValueError, jsonschema.ValidationError) as error:
            return f"{type(error).__name__}: {call.function.arguments[:200]}"
    return "held" if calls else "cut"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def ask(client: OpenAI, number: int) -> str:
    """Question number `number`, in its own way."""
    drawn = random.Random(number)
    tools: Any = drawn.sample(TOOLS, drawn.randint(1, len(TOOLS)))
    names = [tool["function"]["name"] for tool in tools]
    named = drawn.choice(names) if drawn.random() < 0.3 else ""
    choice: Any = {"type": "function", "function": {"name": named}} if named else "required"
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}], tools=tools,
        tool_choice=choice, temperature=drawn.choice([0.0, 0.7, 1.0, 1.5]), seed=number, max_tokens=200,
        parallel_tool_calls=drawn.random() < 0.3,
    )  # fmt: skip
    return verdict(answer, {named} if named else set(names))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="http://127.0.0.1:8000/v1", help="base URL of a gateway")
    parser.add_argument("--key", default="none")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first question")
    given = parser.parse_args()
    client = OpenAI(base_url=given.base, api_key=given.key)
    found = Counter(ask(client, number) for number in range(given.first, given.first + given.calls))
    print(json.dumps({"asked": given.calls, **found}, ensure_ascii=False))
    return 0 if set(found) <= {"held"} else 1


if __name__ == "__main__":
    sys.exit(main())
