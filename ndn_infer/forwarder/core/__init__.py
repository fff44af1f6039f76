"""The forwarder's tables, strategies and pipelines. Pure."""
