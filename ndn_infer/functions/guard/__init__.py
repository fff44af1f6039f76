"""The guard: judges prompts and answers of the network under policies that readers name."""
