"""ndn-infer: named-data inference. Import what you need from the submodules; nothing is imported here on purpose."""

__version__ = "0.1.0"
