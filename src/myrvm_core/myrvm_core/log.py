"""Logs: one JSON line an event to a rotating file, a readable line to a terminal. structlog over the standard library.

Fields: `time` (UTC, ISO 8601), `level`, `node`, `message`, `deposit_id` where there is one, and the event's own.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Any

import structlog

from myrvm_core.errors import SettingsError

FILE_BYTES = 10_000_000
FILE_COUNT = 5
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SECRET_NAMES = ("api_key", "token", "password", "secret", "authorization", "x-rvm-api-key")


def redact(_logger: Any, _method: str, event: Any) -> Any:
    """Replace the value of any field whose name says that it is a secret."""
    return {
        name: "**********" if any(word in name.lower() for word in _SECRET_NAMES) else value
        for name, value in event.items()
    }


def configure(node: str, directory: Path | None, level: str = "INFO") -> structlog.stdlib.BoundLogger:
    """Set this process's logs up and give the node's logger.

    Args:
        node: written in each line; also the file's name, `<node>.jsonl`.
        directory: of the file; None writes no file.
        level: one of `LEVELS`.

    Raises:
        SettingsError: `level` is not one of `LEVELS`, or the directory cannot be written.
    """
    if level.upper() not in LEVELS:
        raise SettingsError(f"LOG_LEVEL = {level!r} is not allowed: one of {', '.join(LEVELS)}")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        redact,
    ]
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(), event_key="message", timestamp_key="time", sort_keys=False
                ),
            ],
        )
    )
    handlers: list[logging.Handler] = [terminal]
    if directory is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = logging.handlers.RotatingFileHandler(
                directory / f"{node}.jsonl", maxBytes=FILE_BYTES, backupCount=FILE_COUNT - 1, encoding="utf-8"
            )
        except OSError as error:
            raise SettingsError(f"log directory {directory} cannot be written: {error}") from error
        file.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.JSONRenderer(default=str),
                ],
            )
        )
        handlers.append(file)
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    return structlog.stdlib.get_logger(node).bind(node=node)


def set_level(level: str) -> None:
    """Log from `level` on, one of `LEVELS`, until the process ends."""
    logging.getLogger().setLevel(level)
