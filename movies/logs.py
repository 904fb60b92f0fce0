"""Structured logs: one JSON object a line on standard error, each with the request's id.

JSON escapes whatever a client sent, so no line can be forged. Nothing here is ever given a
password, a token or an e-mail address.
"""

import logging
import re
import sys
from contextvars import ContextVar
from uuid import uuid4

from pythonjsonlogger.json import JsonFormatter

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def begin_request(offered: str | None) -> str:
    """Take the request id that a client or proxy offers if it is harmless, else make one."""
    chosen = offered if offered and _ACCEPTABLE_ID.fullmatch(offered) else uuid4().hex
    request_id.set(chosen)
    return chosen


class _RequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


def configure_logging() -> None:
    """Send this package's log lines to standard error, once however many applications exist."""
    logger = logging.getLogger("movies")
    if logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RequestId())
    handler.setFormatter(
        JsonFormatter(
            ["levelname", "name", "message", "request_id"],
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    )
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
