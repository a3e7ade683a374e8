"""How the log is written: for people, or a JSON object a line."""

import contextlib
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Literal, override

LogFormat = Literal["auto", "text", "json"]

_STDERR = 2
_LAST_WORDS_SECONDS = 1.0  # for the last lines to be written


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


class BackgroundHandler(logging.Handler):
    """Has a thread write the lines, so that whoever logs never waits for a pipe that nobody reads.

    What finds no place among the `room` lines that wait is dropped, and later its number is told.
    """

    def __init__(self, descriptor: int, room: int = 10_000) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(room)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1
        except Exception:
            self.handleError(record)

    @override
    def close(self) -> None:
        """Write what waits, unless nobody reads it."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_LAST_WORDS_SECONDS)
            self._thread.join(_LAST_WORDS_SECONDS)
        super().close()

    def _write(self) -> None:
        """Past Python's own buffer, whose lock a write that hangs would hold, and the process not end for it."""
        with contextlib.suppress(OSError):  # nobody can read any more
            while (line := self._lines.get()) is not None:
                self._write_line(line)
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._write_line(self.format(_warning(f"{dropped} lines were dropped, for nobody read the log")))

    def _write_line(self, line: str) -> None:
        data = f"{line}\n".encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data) :]


def _warning(message: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None)


@contextlib.contextmanager
def log_to_stderr(form: LogFormat, level: str) -> Iterator[None]:
    """Write muxjax's log from `level` on, and warnings of all else, to standard error, while the block runs.

    `auto` writes text to a terminal and JSON elsewhere.
    """
    is_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    handler = BackgroundHandler(_STDERR)
    handler.setFormatter(JsonFormatter() if is_json else TextFormatter())
    root, ours = logging.getLogger(), logging.getLogger("muxjax")
    before = root.handlers, ours.level
    root.handlers = [handler]  # libraries add handlers of their own when they are imported
    ours.setLevel(level.upper())
    try:
        yield
    finally:
        root.handlers, ours.level = before
        handler.close()
