"""Endpoints of accounts."""

from typing import Any

from flask_limiter.util import get_remote_address

from movies.api import Access, Blueprint, caller_id, rate_limit_key
from movies.auth.passwords import TooManyAtOnce
from movies.extensions import limiter
from movies.users import service
from movies.users.schemas import (
    PasswordChangeSchema,
    RegistrationSchema,
    UserSchema,
    UserUpdateSchema,
)

bp = Blueprint("users", __name__, url_prefix="/api/v1/users", description="Accounts")


@bp.post(
    "/register/",
    access=Access.ANYONE,
    limits=[limiter.limit("60 per minute", key_func=get_remote_address)],
    raises=(service.AddressTaken, TooManyAtOnce),
)
@bp.arguments(RegistrationSchema)
@bp.response(201, UserSchema)
def register(account: dict[str, str]) -> Any:
    """Register

    A password has 8 to 128 characters and must not be easy to guess; beyond that, anything goes.
    """
    return service.register(**account)


@bp.get("/me/", access=Access.USER)
@bp.response(200, UserSchema)
def read_me() -> Any:
    """Read one's account

    The account that the access token belongs to.
    """
    return service.get(caller_id())


@bp.patch("/me/", access=Access.USER)
@bp.arguments(UserUpdateSchema)
@bp.response(200, UserSchema)
def update_me(names: dict[str, Any]) -> Any:
    """Change one's names

    The id and the address are read-only, and ignored.
    """
    return service.change_names(caller_id(), names)


@bp.delete("/me/", access=Access.USER)
@bp.response(204)
def delete_me() -> None:
    """Delete one's account

    With all its ratings, which no longer count, and all its tokens.
    """
    service.remove(caller_id())


@bp.post(
    "/me/password/",
    access=Access.USER,
    limits=[limiter.limit("10 per minute", key_func=rate_limit_key)],
    raises=(service.WrongPassword, TooManyAtOnce),
)
@bp.arguments(PasswordChangeSchema)
@bp.response(204)
def change_password(change: dict[str, str]) -> None:
    """Change one's password

    Ends every sign-in, this one included.
    """
    service.change_password(caller_id(), **change)
