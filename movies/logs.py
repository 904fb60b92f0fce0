"""Logs: one line per event on standard error, each with the ids of the request that caused it.

In production a line is a JSON object, elsewhere it is text. Both escape what a client sent, so no
line can be forged. No password, token or email address is ever passed to a log call.
"""

import json
import logging
import os
import re
import secrets
import sys
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import orjson

from config import MOVIES_CONFIG


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of a caller that a request belongs to (W3C Trace Context)."""

    trace_id: str
    flags: str
    state: str


request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
trace: ContextVar[Trace | None] = ContextVar("trace", default=None)

REPEATS = 20  # lines of one kind of warning or error that are written in one window
WINDOW = 10.0  # seconds

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace_id>[0-9a-f]{32})"
    r"-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")
_COLOR = re.compile(r"\x1b\[[\d;]*m")
_FIELDS = ("request_id", "trace_id")
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message", *_FIELDS}


def begin_request(offered: str | None, traceparent: str = "", tracestate: str = "") -> str:
    """Set the ids of a request: those that a client or proxy offers, if they are harmless.

    A request id of our own takes the place of one that is missing or not acceptable. A malformed
    `traceparent` is ignored, as the specification asks.
    """
    chosen = offered if offered and _ACCEPTABLE_ID.fullmatch(offered) else secrets.token_hex(16)
    request_id.set(chosen)
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or (found["version"] == "00" and found["more"]):
        trace.set(None)
    else:
        state = tracestate if _TRACESTATE.fullmatch(tracestate) else ""
        trace.set(Trace(found["trace_id"], found["flags"], state))
    return chosen


def trace_headers() -> dict[str, str]:
    """The headers that make an outgoing request part of the caller's trace; none without one."""
    current = trace.get()
    if current is None:
        return {}
    headers = {"traceparent": f"00-{current.trace_id}-{secrets.token_hex(8)}-{current.flags}"}
    return {**headers, "tracestate": current.state} if current.state else headers


def configure_logging(*, as_json: bool = MOVIES_CONFIG == "production") -> None:
    """Send the log lines of all libraries to standard error, in one format. Safe to repeat.

    Commands of `flask` log warnings only, so that their output can be read.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, _Handler) for handler in root.handlers):
        root.addHandler(_Handler(as_json))
        logging.captureWarnings(as_json)
    logging.getLogger("movies").setLevel(logging.WARNING if _is_command() else logging.INFO)


def _is_command() -> bool:
    click = sys.modules.get("click")
    return click is not None and click.get_current_context(silent=True) is not None


class _Unbuffered:
    """A stream on a file descriptor, without a buffer and so without the lock of one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> None:
        """Write the whole text."""
        data = text.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data) :]


def _standard_error() -> Any:
    try:
        return _Unbuffered(sys.stderr.fileno())
    except (AttributeError, OSError):  # there is none, or a program has replaced it
        return sys.stderr


class _Handler(logging.StreamHandler[Any]):
    """Writes lines, and a summary in place of warnings and errors that repeat."""

    def __init__(self, as_json: bool) -> None:
        super().__init__(_standard_error())
        self.addFilter(_add_ids)
        self.setFormatter(_JsonFormatter() if as_json else _TextFormatter())
        self._window_start = 0.0
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._seen_lock = Lock()

    def handle(self, record: logging.LogRecord) -> Any:
        """Write a line without a lock: it is one system call, and no thread waits for another."""
        if is_accepted := self.filter(record):
            self.emit(record)
        return is_accepted

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless REPEATS of its kind were written in the current window."""
        is_new = not 0 <= record.created - self._window_start < WINDOW
        if is_new or record.levelno >= logging.WARNING:
            with self._seen_lock:
                if is_new:
                    self._summarize()
                    self._window_start = record.created
                if record.levelno >= logging.WARNING and self._is_repeated(record):
                    return
        super().emit(record)

    def _is_repeated(self, record: logging.LogRecord) -> bool:
        cause = record.exc_info[0] if record.exc_info else None
        kind = (record.name, record.levelno, str(record.msg), cause)
        self._seen[kind] += 1
        return self._seen[kind] > REPEATS

    def _summarize(self) -> None:
        for (name, level, message, _), times in self._seen.items():
            if times > REPEATS:
                summary = {"name": name, "levelno": level, "levelname": logging.getLevelName(level)}
                text = {"msg": "repeated: %s", "args": (message,), "times": times - REPEATS}
                super().emit(logging.makeLogRecord({**summary, **text}))
        self._seen.clear()


def _add_ids(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    current = trace.get()
    record.trace_id = current.trace_id if current else None
    return True


class _JsonFormatter(logging.Formatter):
    """A JSON object in ASCII: time, level, logger, message and all further fields."""

    def format(self, record: logging.LogRecord) -> str:
        values = vars(record)
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": values.get("request_id"),
            "trace_id": values.get("trace_id"),
        }
        line |= {name: value for name, value in values.items() if name not in _STANDARD}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = record.stack_info
        try:
            text = orjson.dumps(line, default=str).decode()
        except TypeError:  # lone surrogates, or a large integer
            text = ""
        return text if text and text.isascii() else json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    """Time, level, logger and message, then the fields that have a value."""

    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.name == "werkzeug":  # the development server colors its lines
            record.message = _COLOR.sub("", record.message).replace("\n", " ")
        values = vars(record)
        own = {name: value for name, value in values.items() if name not in _STANDARD}
        own |= {name: values.get(name) for name in _FIELDS}
        fields = [
            f"{name}={value if isinstance(value, int | float) else json.dumps(str(value))}"
            for name, value in own.items()
            if value is not None
        ]
        line = " ".join([super().formatMessage(record), *fields])
        return line.translate(_CONTROL)


_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
