"""What `kv_connector_extra_config` may say.

Owns: these options, their ranges, and what is wrong with others in words. Pure. Must not know: vLLM, options of
this package (config/), which come from file, environment and `set`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from ndn_infer.errors import ConfigError

_RANGES: Final[dict[str, tuple[float, float]]] = {
    "lookup_ms": (0, 60_000),
    "wait_ms": (0, 1000),
    "load_timeout_s": (0.05, 600),
    "stage_mib": (1, 1 << 20),
    "min_blocks": (1, 512),
    "join_timeout_s": (0.1, 600),
}
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "load": ("async", "sync"),
    "save": ("all", "prompts", "off"),
    "inputs": ("off", "by-hash"),
}


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """`load`: async (other requests go on meanwhile) or sync (the step waits). `save`: which blocks are published: all,
    those of prompts, none. `inputs`: whether requests with multimodal inputs are named by vLLM's hash of these (a
    client that gives hashes of its own is believed) or not at all. `peers`: identities that may hold blocks, asked
    before others are known. `lookup_ms`: how long a request waits to hear what is held; then it is computed; 0: nothing
    is loaded. `wait_ms`: how long a step waits for that. `load_timeout_s`: for all blocks of a request; those that are
    late are computed. `stage_mib`: blocks that wait to be published; further ones are not saved. `min_blocks`: fewer
    are not worth a load. `model_digest`: of the weights, where they shall not be hashed at the start.
    `join_timeout_s`: for the forwarder, at the start; an instance without one serves, and shares nothing until there is
    one. `set`: options of ndn-infer, as with --set."""

    load: str = "async"
    save: str = "all"
    inputs: str = "off"
    peers: tuple[str, ...] = ()
    lookup_ms: float = 400.0
    wait_ms: float = 4.0
    load_timeout_s: float = 10.0
    stage_mib: float = 256.0
    min_blocks: float = 1.0
    model_digest: str = ""
    join_timeout_s: float = 10.0
    set: tuple[str, ...] = ()

    def as_role(self, *, saves: bool, loads: bool) -> ConnectorSettings:
        """Of an instance that only saves, or only loads (kv_role)."""
        return replace(self, save=self.save if saves else "off", lookup_ms=self.lookup_ms if loads else 0.0)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> ConnectorSettings:
        """Raises ConfigError naming the option."""
        known = {item.name: item.default for item in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in given.items():
            if key not in known:
                raise ConfigError(
                    f"kv_connector_extra_config has no option {key!r}", hint=f"there are {', '.join(sorted(known))}"
                )
            values[key] = _checked(key, value, known[key])
        return cls(**values)


def _checked(key: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{key} in kv_connector_extra_config is a list of texts")
        return tuple(value)
    if isinstance(default, str):
        if not isinstance(value, str) or value not in _CHOICES.get(key, (value,)):
            raise ConfigError(
                f"{key} in kv_connector_extra_config is one of {', '.join(_CHOICES.get(key, ('texts',)))}"
            )
        if key == "model_digest" and not (len(value) == 64 and set(value) <= set("0123456789abcdef")):
            raise ConfigError("model_digest in kv_connector_extra_config is 64 lower-case hex digits")
        return value
    low, high = _RANGES[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{key} in kv_connector_extra_config is a number from {low:g} to {high:g}")
    return float(value)
