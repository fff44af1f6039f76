"""One question; the answer's text as it arrives, and what it rests on.

python docs/examples/ask.py "Why is the sky blue?"        with 'ndn-infer up' in another terminal
"""

import asyncio
import sys

import ndn_infer


async def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else "What is the capital of France?"
    async with ndn_infer.connect() as network:
        reply = network.chat(question, max_tokens=64)
        async for piece in reply:
            print(piece, end="", flush=True)
        print()
        for use in reply.names:
            print(f"  {use.uses:3} x {use.kind}, from: {use.source}")


asyncio.run(main())
