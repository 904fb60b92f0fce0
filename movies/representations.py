"""Adds ETags to responses, answers conditional requests with 304, and compresses bodies."""

import gzip
from hashlib import sha256
from threading import Lock

from cachetools import LRUCache, cached
from flask import Response, request

API, DOCUMENTATION, TOKENS = "/api/v1/", "/api/schema/", "/api/v1/auth/"
MIN_COMPRESSED = 1024  # bytes; a smaller body fits into one packet anyway
LEVEL = 6  # of zlib's 1 to 9
COMPRESSIBLE = {"application/json", "application/problem+json", "image/svg+xml"}  # and text/*
GZIP_SUFFIX = "-gzip"  # representations in different codings need different strong tags


def finish(response: Response) -> Response:
    """Add an ETag and Cache-Control. Send 304 if the client has the body, else compress it.

    The client has the body if `If-None-Match` contains its tag. Responses that contain tokens are
    not compressed, because the compressed length could reveal a token (BREACH).

    This runs for every response, so it avoids Flask's slower accessors.
    """
    environ, headers = request.environ, response.headers
    path = environ["PATH_INFO"]
    tag = ""
    if (
        response.status_code == 200
        and environ["REQUEST_METHOD"] in ("GET", "HEAD")
        and path.startswith((API, DOCUMENTATION))
    ):
        is_api = path.startswith(API)
        if "Cache-Control" not in headers:
            headers.add("Cache-Control", "private, no-cache" if is_api else "no-cache")
        tag = headers.get("ETag", "").removeprefix("W/").strip('"')
        tag = tag or sha256(response.get_data()).hexdigest()[:32]  # SHA-256 is fast in hardware
    is_compressed = not path.startswith(TOKENS) and _negotiate_gzip(response)
    if tag:
        headers["ETag"] = f'"{tag}{GZIP_SUFFIX}"' if is_compressed else f'"{tag}"'
        if "HTTP_IF_NONE_MATCH" in environ and _is_known(tag):
            return _not_modified(response)
    if is_compressed:
        _compress(response, tag)
    return response


def _is_known(tag: str) -> bool:
    known = request.if_none_match
    return known.contains_weak(tag) or known.contains_weak(tag + GZIP_SUFFIX)


def _not_modified(response: Response) -> Response:
    """The response without its body and the headers that describe a body (RFC 9110, 15.4.5)."""
    response.status_code = 304
    response.direct_passthrough = False
    response.close()
    response.set_data(b"")
    for name in ("Content-Type", "Content-Length", "Content-Disposition", "Last-Modified"):
        response.headers.pop(name, None)
    return response


def _negotiate_gzip(response: Response) -> bool:
    """Whether to compress. Responses that could be compressed say that they vary."""
    headers = response.headers
    size = int(headers.get("Content-Length", 0)) or response.calculate_content_length() or 0
    if size < MIN_COMPRESSED or response.status_code in (204, 206, 304):
        return False
    mimetype = headers.get("Content-Type", "").partition(";")[0]
    if mimetype not in COMPRESSIBLE and not mimetype.startswith("text/"):
        return False
    vary = headers.get("Vary")
    headers["Vary"] = f"{vary}, Accept-Encoding" if vary else "Accept-Encoding"
    accepted = request.environ.get("HTTP_ACCEPT_ENCODING", "").lower()
    if "gzip" not in accepted and "*" not in accepted:
        return False
    codings = request.accept_encodings
    return 0 < codings.quality("gzip") >= codings.quality("identity")


def _compress(response: Response, tag: str) -> None:
    response.direct_passthrough = False
    if tag and request.path.startswith(DOCUMENTATION):
        body = _compressed_once(response, tag)
        response.close()  # its file may not have been read
    else:
        body = _compressed(response)
    response.set_data(body)  # sets Content-Length
    response.headers["Content-Encoding"] = "gzip"


def _compressed(response: Response) -> bytes:
    return gzip.compress(response.get_data(), LEVEL, mtime=0)


@cached(LRUCache(maxsize=16), key=lambda _response, tag: tag, lock=Lock())
def _compressed_once(response: Response, _tag: str) -> bytes:
    """The documentation's compressed body, made once per process and version."""
    return _compressed(response)
