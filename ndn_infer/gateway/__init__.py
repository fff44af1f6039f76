"""The OpenAI API in front of a network: HTTP and JSON on one side, calls by name on the other."""
