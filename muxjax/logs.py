"""How the log is written: for people, or a JSON object a line."""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from typing import Literal, override

LogFormat = Literal["auto", "text", "json"]


class JsonFormatter(logging.Formatter):
    """The time (seconds since 1970), level, logger and message, the record's `fields`, and a traceback as `error`."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """The record's `fields` follow its message as name=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in fields.items())])


@contextlib.contextmanager
def log_to_stderr(form: LogFormat, level: str) -> Iterator[None]:
    """Write muxjax's log from `level` on, and warnings of all else, to standard error, while the block runs.

    `auto` writes text to a terminal and JSON elsewhere.
    """
    is_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if is_json else TextFormatter())
    root, ours = logging.getLogger(), logging.getLogger("muxjax")
    before = root.handlers, ours.level
    root.handlers = [handler]  # libraries add handlers of their own when they are imported
    ours.setLevel(level.upper())
    try:
        yield
    finally:
        root.handlers, ours.level = before
