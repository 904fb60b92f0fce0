"""Absolute URLs of this service: the one place that decides its scheme, host and path prefix."""

from flask import current_app, request


def base_url() -> str:
    """The address under which clients reach the service, without a trailing slash.

    It is the setting PUBLIC_URL where there is one, else it is made from the request.
    """
    public: str = current_app.config.get("PUBLIC_URL", "")
    return public.rstrip("/") or request.root_url.rstrip("/")


def absolute_url(path: str) -> str:
    """The absolute URL of a path of this service. `path` starts with a slash."""
    return base_url() + path
