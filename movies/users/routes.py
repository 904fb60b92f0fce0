"""Endpoints of accounts."""

from typing import Any

from movies.api import Access, Blueprint, caller_id
from movies.auth.errors import PasswordChecksBusy
from movies.limits import RateLimit, caller, client_address
from movies.urls import absolute_url
from movies.users import service
from movies.users.schemas import (
    PasswordUpdateSchema,
    UserCreateSchema,
    UserSchema,
    UserUpdateSchema,
)

bp = Blueprint("users", __name__, url_prefix="/api/v1/users", description="Accounts")

REGISTRATION_LIMIT = RateLimit("registration", 60, client_address)
PASSWORD_LIMIT = RateLimit("password", 10, caller)
LOCATION = {
    "Location": {
        "description": "URL of the new account",
        "schema": {"type": "string", "format": "uri"},
    }
}


@bp.post(
    "/register/",
    access=Access.ANYONE,
    limits=[REGISTRATION_LIMIT],
    raises=(service.EmailTaken, PasswordChecksBusy),
)
@bp.arguments(UserCreateSchema)
@bp.response(201, UserSchema, headers=LOCATION)
def register(account: dict[str, str]) -> Any:
    """Register an account

    The password must have 8 to 128 characters and must not be easy to guess. There are no other
    password rules.
    """
    user = service.register(**account)
    return user, {"Location": absolute_url(f"{bp.url_prefix}/me/")}


@bp.get("/me/", access=Access.USER)
@bp.response(200, UserSchema)
def get_me() -> Any:
    """Get your account

    Returns the account that the access token belongs to.
    """
    return service.read(caller_id())


@bp.patch("/me/", access=Access.USER)
@bp.arguments(UserUpdateSchema)
@bp.response(200, UserSchema)
def update_me(names: dict[str, Any]) -> Any:
    """Update your account

    Changes the names in the body. `id` and `email` are read-only: they are accepted and ignored.
    """
    return service.change_names(caller_id(), names)


@bp.delete("/me/", access=Access.USER)
@bp.response(204)
def delete_me() -> None:
    """Delete your account

    Also deletes your ratings, removes them from the vote counts, and revokes your tokens.
    """
    service.remove(caller_id())


@bp.post(
    "/me/password/",
    access=Access.USER,
    limits=[PASSWORD_LIMIT],
    raises=(service.WrongPassword, PasswordChecksBusy),
)
@bp.arguments(PasswordUpdateSchema)
@bp.response(204)
def change_password(change: dict[str, str]) -> None:
    """Change your password

    Revokes all your tokens, including the one of this request. Sign in again afterwards.
    """
    service.change_password(caller_id(), **change)
