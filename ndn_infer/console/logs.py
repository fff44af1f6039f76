"""Log lines on standard error, for people or for machines.

Owns: their form and level. Must not know: who logs what.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

from ndn_infer.config import LogConfig

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
NOISY: Final = ("asyncio", "urllib3", "httpx", "filelock", "aiohttp")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339), level, logger, message, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def logs_as_json() -> bool:
    """Whether this process logs in JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def set_up_logging(verbose: int, options: LogConfig) -> None:
    """Log to standard error. `verbose` counts -v; a level in the configuration wins."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    if options.level:
        level = LEVELS[options.level]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if options.format == "json"
        else logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s")
    )  # fmt: skip
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
