"""Configures routing, proxies, CORS and response headers."""

import re
from typing import Any

from flask import Flask, Response, current_app, request
from flask_cors import CORS
from werkzeug.exceptions import BadRequest, NotFound
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import IntegerConverter

from movies.api import JSON, PATCH_TYPES
from movies.headers import StandardHeaders
from movies.representations import finish
from movies.urls import HAS_VALID_HOST, PublicAddress

# What scripts of other origins may read and send; a browser asks again after MAX_AGE.
EXPOSED_HEADERS = [
    *("Accept-Patch", "Age", "Allow", "Cache-Status", "ETag", "Location", "Preference-Applied"),
    *("RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate", "X-Request-ID"),
]
ALLOWED_HEADERS = [
    *("Accept", "Accept-Language", "Authorization", "Cache-Control", "Content-Type"),
    *("If-None-Match", "Prefer", "traceparent", "tracestate", "X-Request-ID"),
]
MAX_AGE = 7200  # seconds; no browser keeps it longer than a day, Chromium two hours


class InvalidHost(BadRequest):
    """The request has no `Host`, or an invalid one."""


class IdConverter(IntegerConverter):
    """A positive integer of at most 18 digits without leading zeros; anything else gets 404."""

    regex = "[1-9][0-9]{0,17}"


def init_app(app: Flask) -> None:
    """Set up routing, proxies, CORS and the headers of every response."""
    app.url_map.converters["id"] = IdConverter
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.before_request(_check_request)
    app.after_request(_add_headers)
    app.after_request(finish)
    _allow_origins(app)
    with_headers = StandardHeaders(app.wsgi_app, hsts=app.config["HSTS"])
    wsgi_app = PublicAddress(with_headers, app.config["PUBLIC_URL"])
    app.wsgi_app = wsgi_app  # type: ignore[method-assign]
    if proxies := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            wsgi_app, x_for=proxies, x_proto=proxies, x_host=0, x_port=proxies, x_prefix=proxies
        )


def _allow_origins(app: Flask) -> None:
    """Let pages of CORS_ORIGINS call the API, and pages of any origin read the OpenAPI document.

    Flask-CORS takes some strings for patterns, so it is given patterns that match one origin each.
    """
    exact = [re.compile(re.escape(origin) + r"\Z", re.I) for origin in app.config["CORS_ORIGINS"]]
    resources: Any = {r"/api/schema/(openapi\.json/?)?\Z": {"origins": "*", "send_wildcard": True}}
    if exact:
        resources[r"/api/v1/.*"] = {"origins": exact}
    CORS(
        app,
        resources=resources,
        expose_headers=EXPOSED_HEADERS,
        allow_headers=ALLOWED_HEADERS,
        max_age=MAX_AGE,
    )


def _check_request() -> None:
    """Raises InvalidHost, and NotFound for a path with repeated slashes.

    Without the latter, werkzeug ignores repeated slashes at either end of a path.
    """
    if not request.environ[HAS_VALID_HOST]:
        raise InvalidHost
    if "//" in request.environ["PATH_INFO"]:
        raise NotFound


def _add_headers(response: Response) -> Response:
    """Add the headers of some methods and statuses."""
    headers, status, method = response.headers, response.status_code, request.method
    if method == "OPTIONS" and status == 200:
        response.status_code = status = 204  # Flask's own response is an empty HTML page
        if "PATCH" in response.allow:
            headers["Accept-Patch"] = ", ".join(PATCH_TYPES)
    if status == 204:
        del headers["Content-Type"]
    elif status == 415:
        is_patch = method == "PATCH"
        headers["Accept"] = ", ".join(PATCH_TYPES) if is_patch else JSON  # RFC 9110, 15.5.16
        headers["Accept-Encoding"] = "identity"  # RFC 9110, 12.5.3
        if is_patch:
            headers["Accept-Patch"] = ", ".join(PATCH_TYPES)  # RFC 5789, 2.2
    if current_app.config["CORS_ORIGINS"] and request.path.startswith("/api/v1/"):
        response.vary.add("Origin")
    return response
