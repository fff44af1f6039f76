"""vLLM as the engine behind our producers: a process of its own that this one talks to (docs/vllm.md)."""
