"""Absolute URLs of this service: the one place that decides their scheme, host and path prefix.

They begin with the setting PUBLIC_URL. Without it they are made from the request: its scheme and
`Host`, and the forwarded scheme, port and prefix if a trusted proxy sent them. `X-Forwarded-Host`
is never used.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import idna
from flask import request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

BASE_URL, HAS_VALID_HOST = "movies.base_url", "movies.has_valid_host"  # keys of the WSGI environ

# RFC 3986 allows an underscore in a host, and networks of containers use it.
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rf"(\[[0-9A-Fa-f:.]+\]|(?:{_LABEL}\.)*{_LABEL}\.?)(?::([0-9]{{0,5}}))?")
_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class PublicAddress:
    """WSGI middleware that determines the URL at which the client reached the service.

    It changes scheme, host and prefix in `environ` to those of that URL, so that URLs made by Flask
    agree with those made here. It also ends every path in a slash: if the rule is `/x/`, werkzeug
    answers a wrong method on `/x` with 404 instead of 405.
    """

    def __init__(self, app: "WSGIApplication", public_url: str) -> None:
        self._app = app
        self._public = urlsplit(public_url.rstrip("/")) if public_url else None

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        scheme = environ["wsgi.url_scheme"].lower()
        if scheme not in _DEFAULT_PORTS:  # a proxy's X-Forwarded-Proto can hold anything
            scheme = "http"
        host = normalize_host(scheme, _requested_host(environ))
        prefix = environ.get("SCRIPT_NAME", "").rstrip("/")
        if not _PREFIX.fullmatch(prefix):
            prefix = ""
        environ[HAS_VALID_HOST] = bool(host)
        if self._public:
            scheme, host, prefix = self._public.scheme, self._public.netloc, self._public.path
        environ[BASE_URL] = f"{scheme}://{host}{prefix}" if host else prefix
        environ["wsgi.url_scheme"] = scheme
        environ["HTTP_HOST"] = host or "localhost"
        environ["SCRIPT_NAME"] = prefix
        if not (path := environ.get("PATH_INFO", "")).endswith("/"):
            environ["PATH_INFO"] = f"{path}/"
        return self._app(environ, start_response)


def _requested_host(environ: "WSGIEnvironment") -> str:
    """The `Host` header, or the server's address: probes that speak HTTP/1.0 send no `Host`."""
    if "HTTP_HOST" not in environ and environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        name = environ["SERVER_NAME"].strip("[]")  # servers differ in whether they bracket IPv6
        host = f"[{name}]" if ":" in name else name
        return f"{host}:{environ['SERVER_PORT']}"
    return str(environ.get("HTTP_HOST", ""))


@lru_cache(maxsize=256)
def normalize_host(scheme: str, host: str) -> str:
    """A `Host` header in lower-case ASCII without a default port; empty if it is not a host.

    Internationalized names become A-labels (IDNA 2008). `host` has one character per byte, as WSGI
    requires.
    """
    if not host.isascii():
        try:
            name, colon, port = host.encode("latin-1").decode("utf-8").partition(":")
            host = idna.encode(name, uts46=True).decode() + colon + port
        except (UnicodeError, idna.IDNAError):
            return ""
    match = _HOST.fullmatch(host)
    if match is None or len(match[1]) > 253:
        return ""
    name, port = match[1].lower(), (match[2] or "").lstrip("0")
    if match[2] and not 0 < int(match[2]) < 65536:
        return ""
    if name.startswith("["):
        try:
            IPv6Address(name[1:-1])
        except AddressValueError:
            return ""
    return name if port in ("", _DEFAULT_PORTS[scheme]) else f"{name}:{port}"


def absolute_url(path: str) -> str:
    """The absolute URL of a path of this service, which starts with a slash.

    It is relative if the request has no valid `Host` and PUBLIC_URL is not set.
    """
    return f"{request.environ[BASE_URL]}{path}"


def page_url(page: int) -> str:
    """The absolute URL of another page of the requested list, with all of its parameters."""
    url = absolute_url(quote(request.path))
    return f"{url}?{_query_of_page(request.query_string, page)}"


@lru_cache(maxsize=512)
def _query_of_page(query: bytes, page: int) -> str:
    """The query string with another `page`. Cached: encoding is slow, and clients repeat pages."""
    parameters = dict(parse_qsl(query.decode(), keep_blank_values=True))
    return urlencode({**parameters, "page": page})
