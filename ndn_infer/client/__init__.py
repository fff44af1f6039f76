"""The consumer: Client, its conversations and their answers."""

from ndn_infer.client.client import Client
from ndn_infer.client.conversation import Answer, Cited, Conversation, Timing, rag_prompt

__all__ = ["Answer", "Cited", "Client", "Conversation", "Timing", "rag_prompt"]
