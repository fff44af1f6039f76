"""Keys and tokens that services give out, by the forms that `detect-secrets` knows.

Owns: which of its detectors are used: those with a form, not those that guess by names of variables or by entropy. Must
not know: how a pattern is looked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Final

_NOT: Final = frozenset({"ip_public", "keyword", "high_entropy_strings", "base"})
"""Addresses are personal data here; the others find what any text has."""


@cache
def secret_forms() -> tuple[tuple[str, str], ...]:
    """Pairs of what a secret is called and its pattern. Takes half a second the first time."""
    from detect_secrets import plugins

    found = []
    for module in pkgutil.iter_modules(plugins.__path__):
        if module.name in _NOT:
            continue
        for detector in vars(importlib.import_module(f"detect_secrets.plugins.{module.name}")).values():
            if isinstance(detector, type) and detector.__module__.endswith(f".{module.name}"):
                denylist = getattr(detector, "denylist", None)
                if isinstance(denylist, list | tuple):
                    called = str(getattr(detector, "secret_type", module.name))
                    found += [(called, form.pattern) for form in denylist]
    return tuple(found)
