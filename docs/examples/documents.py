"""An answer from the texts of a folder, or from a corpus that the network serves, with the passages that it rests on.

python docs/examples/documents.py ./notes "When do we meet?"
"""

import sys

import ndn_infer

folder, question = sys.argv[1:3]
with ndn_infer.connect_sync() as network, network.documents(folder) as documents:
    reply = documents.ask(question, max_tokens=32)
    for piece in reply:
        print(piece, end="", flush=True)
    print()
    for number, item in enumerate(reply.cited, 1):
        print(f"[{number}] {item.passage.source}: {item.passage.title} (score {item.score:.2f})\n    {item.name}")
