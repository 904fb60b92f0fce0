"""Authenticates requests by their access token."""

from flask import Flask, g, request

from movies.auth.errors import MissingToken
from movies.auth.tokens import identify_caller


def init_app(app: Flask) -> None:
    """Have `app` authenticate the endpoints that require a user."""
    app.extensions["authenticate"] = require_user


def require_user() -> None:
    """Set `g.caller` to the user that the request's bearer token identifies.

    Raises NotAuthenticated.
    """
    scheme, _, token = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise MissingToken
    g.caller = identify_caller(token)
