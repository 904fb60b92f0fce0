"""One log line and two metrics for each request."""

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, g, request
from prometheus_client import Counter, Histogram

from movies.logs import begin_request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
QUIET = {"/health/live", "/health/ready", "/metrics"}  # routes that are logged at DEBUG
DETAILS = "movies.request"  # key of the WSGI environ

REQUESTS = Counter(
    "http_requests_total",
    "Requests by method, route and status. The route is `unmatched` if there is none, and `refused`"
    " if the request was not valid HTTP",
    ["method", "route", "status"],
)
SECONDS = Histogram(
    "http_request_duration_seconds",
    "Seconds from the arrival of a whole request until its response is ready",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


def init_app(app: Flask) -> None:
    """Log and count the requests to an application. Call it last: it wraps all middleware."""
    app.teardown_request(_describe)
    app.wsgi_app = AccessLog(app.wsgi_app)  # type: ignore[method-assign]


def _describe(_error: BaseException | None) -> None:
    """Record the details of a request that are known only while Flask handles it."""
    details = request.environ.get(DETAILS, {})  # a request context of a test or shell has none
    if request.url_rule is not None:
        details["route"] = request.url_rule.rule
    if "caller" in g:
        details["user_id"] = g.caller.user_id
    if "source" in g:
        details["provider"] = g.source


class AccessLog:
    """WSGI middleware that gives each request its ids, then logs and counts it."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        began = time.perf_counter()
        begin_request(
            environ.get("HTTP_X_REQUEST_ID"),
            environ.get("HTTP_TRACEPARENT", ""),
            environ.get("HTTP_TRACESTATE", ""),
        )
        details: dict[str, Any] = {"route": "unmatched", "status": 500}
        environ[DETAILS] = details

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            details["status"] = int(status[:3])
            for name, value in headers:
                if name == "Content-Length":
                    details["bytes"] = int(value)
                    break
            return start_response(status, headers, *error)

        try:
            return self._app(environ, start)
        finally:
            method = environ["REQUEST_METHOD"]
            record(method if method in METHODS else "other", details, time.perf_counter() - began)


def record(method: str, details: dict[str, Any], seconds: float) -> None:
    """Log and count a request. `details` holds at least its `route` and `status`."""
    route, status = details["route"], details["status"]
    REQUESTS.labels(method, route, status).inc()
    SECONDS.labels(method, route).observe(seconds)
    is_quiet = route.rstrip("/") in QUIET and status < 400
    log.log(
        logging.DEBUG if is_quiet else logging.INFO,
        "%s %s %s",
        method,
        route,
        status,
        extra={"method": method, **details, "duration_ms": round(seconds * 1000, 1)},
    )
