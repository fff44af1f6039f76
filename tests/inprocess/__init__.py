"""Whole networks in one process, over the real forwarder core: no daemons and no model. They run two at a time."""
