"""Configuration: one frozen dataclass a layer, from defaults, a TOML file, the environment and flags, in that order.

Owns: where each effective value came from, the directories of this machine's networks. What options there are:
sections.py; what a value may be: values.py. Must not know: what any layer does with its options.
Unknown sections and keys are errors, and so are values of the wrong type or out of range: a misspelt option must not
be silently without effect.

    network      net = "/lab"                      in <data_dir>/network.toml: net, site and node of the network in use,
                                                   written by 'ndn-infer keys' (ndn_infer/node/networks.py)
    file         [fetch] / lifetime_ms = 2000      in $XDG_CONFIG_HOME/ndn-infer/config.toml, or --config FILE
    environment  NDN_INFER_FETCH_LIFETIME_MS=2000
    flag         --set fetch.lifetime_ms=2000      on every command
"""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, get_type_hints

import platformdirs

from ndn_infer.config.sections import (
    AskConfig,
    AuditConfig,
    CallConfig,
    EngineConfig,
    FetchConfig,
    ForwarderConfig,
    GatewayConfig,
    GuardConfig,
    KvConfig,
    LogConfig,
    MetricsConfig,
    NetworkConfig,
    OffersConfig,
    PathsConfig,
    ProducerConfig,
    RecordingConfig,
    TelemetryConfig,
    TrustConfig,
)
from ndn_infer.config.values import TEXTS, ValueLimits, file_path, from_text, from_toml, is_of, texts, type_words
from ndn_infer.errors import ConfigError

__all__ = [
    "AskConfig",
    "CallConfig",
    "Config",
    "EngineConfig",
    "FetchConfig",
    "ForwarderConfig",
    "GatewayConfig",
    "GuardConfig",
    "KvConfig",
    "LogConfig",
    "MetricsConfig",
    "NetworkConfig",
    "PathsConfig",
    "ProducerConfig",
    "TelemetryConfig",
    "TrustConfig",
    "ValueLimits",
    "load",
    "texts",
]

ENVIRONMENT_PREFIX: Final = "NDN_INFER_"


NETWORK_FILE: Final = "network.toml"
NETWORK_KEYS: Final = ("net", "site", "node")


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration. `origins` maps "section.key" to default, file, environment or flag."""

    network: NetworkConfig = NetworkConfig()
    paths: PathsConfig = PathsConfig()
    trust: TrustConfig = TrustConfig()
    fetch: FetchConfig = FetchConfig()
    call: CallConfig = CallConfig()
    forwarder: ForwarderConfig = ForwarderConfig()
    log: LogConfig = LogConfig()
    engine: EngineConfig = EngineConfig()
    kv: KvConfig = KvConfig()
    producer: ProducerConfig = ProducerConfig()
    offers: OffersConfig = OffersConfig()
    audit: AuditConfig = AuditConfig()
    recording: RecordingConfig = RecordingConfig()
    guard: GuardConfig = GuardConfig()
    ask: AskConfig = AskConfig()
    gateway: GatewayConfig = GatewayConfig()
    metrics: MetricsConfig = MetricsConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        return _folder(self.paths.data_dir or platformdirs.user_data_dir("ndn-infer"), "paths.data_dir")

    @property
    def cache_dir(self) -> Path:
        return _folder(self.paths.cache_dir or platformdirs.user_cache_dir("ndn-infer"), "paths.cache_dir")

    @property
    def runtime_dir(self) -> Path:
        """One for each network instance: two homes of a user, and two networks of a home, share no socket."""
        if self.paths.runtime_dir:
            return Path(self.paths.runtime_dir).expanduser()
        instance = hashlib.sha256(os.fsencode(self.keys_dir.resolve())).hexdigest()[:8]
        return runtime_base() / instance

    @property
    def keys_dir(self) -> Path:
        """Keys and certificates of this network; two networks never share a directory."""
        return self.data_dir / self.network.net.strip("/").replace("+", "%2B").replace("/", "+") / "keys"

    @property
    def catalog_dir(self) -> Path:
        return self.keys_dir.parent / "catalog"

    @property
    def socket_path(self) -> Path:
        """Where the embedded forwarder listens."""
        configured = self.forwarder.unix_path
        return Path(configured).expanduser() if configured else self.runtime_dir / "forwarder.sock"


def _folder(text: str, option: str) -> Path:
    """Raises ConfigError where a user without a home has to say where it is."""
    try:
        return file_path(text)
    except ValueError as error:
        raise ConfigError(f"{option} is {text!r}: {error}", hint=f"--set {option}=/some/folder") from error


def runtime_base() -> Path:
    """Where the run-time folders of a user's networks are:
    $XDG_RUNTIME_DIR/ndn-infer; a machine without a session manager has none: then a folder of the user's in /tmp."""
    session = os.environ.get("XDG_RUNTIME_DIR")
    return Path(session) / "ndn-infer" if session else Path(tempfile.gettempdir()) / f"ndn-infer-{os.getuid()}"


SECTIONS: Final = tuple(item.name for item in fields(Config) if item.name != "origins")

_HINTS: Final = get_type_hints(Config)


def options() -> Iterable[tuple[str, str, Any, str]]:
    """(section, key, default, help) of every option."""
    for section in SECTIONS:
        for item in fields(_HINTS[section]):
            yield section, item.name, item.default, item.metadata["help"]


def limits(section: str, key: str) -> ValueLimits:
    """The values that an option takes."""
    found: ValueLimits = next(item.metadata["limits"] for item in fields(_HINTS[section]) if item.name == key)
    return found


def takes(section: str, key: str) -> str:
    """The values of an option in words; "" for texts and lists without choices."""
    found, kind = limits(section, key), get_type_hints(_HINTS[section])[key]
    return "" if kind in (str, TEXTS) and not found.choices else str(found)


def default_file() -> Path:
    return Path(platformdirs.user_config_dir("ndn-infer")) / "config.toml"


def load(
    *, file: Path | None = None, environment: Mapping[str, str] | None = None, flags: Iterable[str] = ()
) -> Config:
    """The effective configuration. `flags` are "section.key=value" texts.

    A `file` that is given must exist; the default file may be absent. Raises ConfigError naming the file, variable or
    flag, and the nearest known key.
    """
    origins = {f"{section}.{key}": "default" for section, key, _, _ in options()}
    found = _Found({section: {} for section in SECTIONS}, origins)
    path = file or default_file()
    if file is not None or path.is_file():
        for section, key, value in _from_file(path):
            found.put(section, key, value, f"file {path}")
    for section, key, text in _from_environment(environment or {}):
        variable = f"{ENVIRONMENT_PREFIX}{section}_{key}".upper()
        found.put(section, key, _parse(section, key, text, variable), f"environment {variable}")
    for flag in flags:
        section, key, text = _split_flag(flag)
        found.put(section, key, _parse(section, key, text, "--set"), "flag --set")
    built = {section: _HINTS[section](**found.values[section]) for section in SECTIONS}
    network = Config(**built).data_dir / NETWORK_FILE
    for key, value in network_in_use(network).items():
        if origins[f"network.{key}"] == "default":
            found.put("network", key, value, f"file {network}")
    built["network"] = NetworkConfig(**found.values["network"])
    return Config(**built, origins=origins)


def with_flags(config: Config, flags: Iterable[str], where: str) -> Config:
    """The configuration with other values of some options, "section.key=value" texts that were given `where`. Raises
    ConfigError."""
    values = {
        section: {item.name: getattr(getattr(config, section), item.name) for item in fields(_HINTS[section])}
        for section in SECTIONS
    }
    found = _Found(values, dict(config.origins))
    for flag in flags:
        section, key, text = _split_flag(flag)
        found.put(section, key, _parse(section, key, text, where), where)
    built = {section: _HINTS[section](**found.values[section]) for section in SECTIONS}
    return Config(**built, origins=found.origins)


def network_in_use(path: Path) -> dict[str, Any]:
    """Net, site and node in a NETWORK_FILE; empty when there is none. Raises ConfigError."""
    if not path.is_file():
        return {}
    content = _toml(path)
    unknown = sorted(content.keys() - set(NETWORK_KEYS))
    if unknown:
        raise ConfigError(f"{path} holds {unknown[0]!r}", hint=f"it holds {', '.join(NETWORK_KEYS)} and nothing else")
    return content


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read configuration file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _from_file(path: Path) -> Iterable[tuple[str, str, Any]]:
    content = _toml(path)
    for section, table in content.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: '{section}' is outside of any [section]")
        for key, value in table.items():
            yield section, key, value


def _from_environment(environment: Mapping[str, str]) -> Iterable[tuple[str, str, str]]:
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX):
            section, _, key = variable[len(ENVIRONMENT_PREFIX) :].lower().partition("_")
            if not key or section not in SECTIONS:
                near = _nearest(section, SECTIONS)
                raise ConfigError(f"environment variable {variable} names no option{near}")
            yield section, key, text


def _split_flag(flag: str) -> tuple[str, str, str]:
    path, separator, text = flag.partition("=")
    section, dot, key = path.strip().partition(".")
    if not separator or not dot:
        raise ConfigError(f"--set expects section.key=value, not {flag!r}")
    return section, key, text


def _kind(section: str, key: str, where: str) -> type:
    if section not in SECTIONS:
        raise ConfigError(f"{where}: unknown configuration section '{section}'{_nearest(section, SECTIONS)}")
    hints = get_type_hints(_HINTS[section])
    if key not in hints:
        raise ConfigError(f"{where}: unknown configuration key '{section}.{key}'{_nearest(key, hints)}")
    found: type = hints[key]
    return found


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _parse(section: str, key: str, text: str, where: str) -> Any:
    kind = _kind(section, key, where)
    try:
        return from_text(kind, text)
    except ValueError as error:
        raise ConfigError(f"{where}: {section}.{key} is {type_words(kind)}, not {text!r}") from error


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found so far: values by section and key, and where each came from."""

    values: dict[str, dict[str, Any]]
    origins: dict[str, str]

    def put(self, section: str, key: str, given: Any, where: str) -> None:
        """Raises ConfigError, naming `where`."""
        kind = _kind(section, key, where)
        value = from_toml(kind, given)
        if not is_of(kind, value):
            raise ConfigError(f"{where}: {section}.{key} is {type_words(kind)}, not {given!r}")
        reason = limits(section, key).refuses(value)
        if reason:
            raise ConfigError(f"{where}: {section}.{key} {reason}")
        self.values[section][key] = value
        self.origins[f"{section}.{key}"] = where
