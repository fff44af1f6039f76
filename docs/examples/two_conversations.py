"""Two conversations at once on one connection. Each has its own messages and its own ledger of names."""

import asyncio

import ndn_infer
from ndn_infer.library import Chat


async def talk(chat: Chat, questions: list[str]) -> None:
    for question in questions:
        answer = await chat.ask(question, max_tokens=10).read()
        print(f"> {question}\n{answer}")


async def main() -> None:
    async with ndn_infer.connect() as network:
        one, other = network.conversation(), network.conversation(system="You are a botanist.")
        await asyncio.gather(
            talk(one, ["What is the capital of Italy?", "And of Spain?"]),
            talk(other, ["Name a tree.", "Name another one."]),
        )
        print(sum(use.uses for use in one.names), "and", sum(use.uses for use in other.names), "names were used")


asyncio.run(main())
