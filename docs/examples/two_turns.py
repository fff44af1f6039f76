"""A conversation of two turns, without an event loop. The second turn finds the KV cache of the first one by name."""

import ndn_infer

with ndn_infer.connect_sync() as network:
    chat = network.conversation(system="Answer in one short sentence.")
    for question in ("What is the capital of France?", "And which river flows through it?"):
        print(f"> {question}")
        for piece in chat.ask(question, max_tokens=20):
            print(piece, end="", flush=True)
        print()
    print(f"{len(chat.messages)} messages")
