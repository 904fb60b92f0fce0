"""Who is calling."""

from typing import cast

from flask import g, request

from movies.auth.service import Identity, NotSignedIn, identify_caller


def require_user() -> None:
    """Find out who is calling, by the bearer token of the request. Raises NotSignedIn."""
    credentials = request.authorization
    if credentials is None or credentials.type != "bearer" or not credentials.token:
        raise NotSignedIn
    g.caller = identify_caller(credentials.token)


def caller_id() -> int:
    """The id of the user who is calling. Only where the endpoint requires one."""
    return cast(Identity, g.caller).user_id


def who() -> str:
    """The user who is calling, or the address where nobody is signed in: for rate limits."""
    if "caller" in g:
        return f"user-{caller_id()}"
    return f"address-{request.remote_addr}"
