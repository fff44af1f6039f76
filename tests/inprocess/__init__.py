"""Whole networks in one process, over the real forwarder core: no daemons, no model, nothing that a busy machine would
change. They run two at a time."""
