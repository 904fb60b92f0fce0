"""Adds the headers that do not depend on the body of a response.

They are added by WSGI middleware: a header of Flask's response costs several times as much,
because the response is copied when it is sent.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import request

from movies.logs import request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HEADERS = "movies.headers"  # key of the WSGI environ

API_POLICY = "default-src 'none'; frame-ancestors 'none'"
# Swagger UI and ReDoc style elements inline, and ReDoc searches in a worker made from a blob.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def set_header(name: str, value: str) -> None:
    """Set a header of the response to the current request, even if it is a problem."""
    request.environ.setdefault(HEADERS, {})[name] = value


class StandardHeaders:
    """WSGI middleware that adds the headers of `set_header` and those of every response."""

    def __init__(self, app: "WSGIApplication", *, hsts: bool) -> None:
        self._app = app
        self._constant = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]
        if hsts:
            self._constant.append(("Strict-Transport-Security", "max-age=31536000"))

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            existing = dict(headers)
            headers += environ.get(HEADERS, {}).items()
            headers.append(("X-Request-ID", request_id.get() or ""))
            headers += self._constant
            if not status.startswith("304"):  # which must not replace the policy of the cached page
                is_page = existing.get("Content-Type", "").startswith("text/html")
                headers.append(("Content-Security-Policy", PAGE_POLICY if is_page else API_POLICY))
            if "Cache-Control" not in existing:
                headers.append(("Cache-Control", "no-store"))
            return start_response(status, headers, *error)

        return self._app(environ, start)
