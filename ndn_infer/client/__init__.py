"""The consumer: Client, its conversations and their answers."""

from ndn_infer.client.answer import Answer, Timing
from ndn_infer.client.asking_state import Prompted
from ndn_infer.client.client import Client
from ndn_infer.client.conversation import Conversation
from ndn_infer.client.passages import Cited, passage_places, rag_prompt

__all__ = [
    "Answer",
    "Cited",
    "Client",
    "Conversation",
    "Prompted",
    "Timing",
    "passage_places",
    "rag_prompt",
]
