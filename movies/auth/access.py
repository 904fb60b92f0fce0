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
    credentials = request.authorization
    if credentials is None or credentials.type != "bearer" or not credentials.token:
        raise MissingToken
    g.caller = identify_caller(credentials.token)
