"""A model asks for a Python function, the program runs it, and the model answers with what it gave."""

import asyncio

import ndn_infer


def multiply(first: int, second: int) -> int:
    """Multiply two whole numbers."""
    return first * second


async def main() -> None:
    async with ndn_infer.connect() as network:
        chat = network.conversation()
        reply = chat.ask("What is 17 times 23?", tools=[multiply], tool_choice="required", max_tokens=100)
        await reply.read()
        results = {}
        for call in reply.calls:
            results[call.id] = multiply(**call.arguments)
            print(f"{call.name}({dict(call.arguments)}) = {results[call.id]}")
        async for piece in chat.returned(results, tool_choice="none", max_tokens=40):
            print(piece, end="", flush=True)
        print()


asyncio.run(main())
