"""ndn-infer: named-data inference. `connect` and `connect_sync` are what a program that asks needs (docs/library.md).

Owns: these names, imported when they are first used: `import ndn_infer` alone costs nothing, and the rest is in the
submodules. Must not know: anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ndn_infer.errors import NdnInferError as NdnInferError
    from ndn_infer.library import connect as connect
    from ndn_infer.library import connect_sync as connect_sync

__version__ = "0.1.0"
__all__ = ["NdnInferError", "__version__", "connect", "connect_sync"]


def __getattr__(name: str) -> Any:
    if name in ("connect", "connect_sync"):
        from ndn_infer import library

        return getattr(library, name)
    if name == "NdnInferError":
        from ndn_infer import errors

        return errors.NdnInferError
    raise AttributeError(f"module 'ndn_infer' has no attribute {name!r}")
