"""Authentication of requests by their access token."""

from flask import Flask, g, request

from movies.auth.service import NotSignedIn, identify_caller


def init_app(app: Flask) -> None:
    """Have `app` authenticate the endpoints that require a user."""
    app.extensions["authenticate"] = require_user


def require_user() -> None:
    """Set `g.caller` to the user that the request's bearer token identifies.

    Raises NotSignedIn.
    """
    credentials = request.authorization
    if credentials is None or credentials.type != "bearer" or not credentials.token:
        raise NotSignedIn
    g.caller = identify_caller(credentials.token)
