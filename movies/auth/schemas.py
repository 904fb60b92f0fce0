"""Schemas for signing in and out."""

from typing import Any

from marshmallow import ValidationError, fields, validate

from movies.auth.passwords import MAX_LENGTH, MAX_TYPED_LENGTH, MIN_LENGTH, normalize
from movies.schemas import BaseSchema, Text

TOKEN_LENGTH = validate.Length(max=4096)
EXAMPLE_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"  # noqa: S105
EXAMPLE_PASSWORD = "lovelace-and-babbage"  # noqa: S105


class Password(Text):
    """A password as it was typed. Its length is validated after normalization."""

    min_length = 0

    def __init__(self, description: str) -> None:
        metadata = {
            "format": "password",
            "description": description,
            "minLength": self.min_length,
            "maxLength": MAX_LENGTH,
        }
        super().__init__(required=True, metadata=metadata)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        typed = super()._deserialize(value, attr, data, **kwargs)
        too_long = len(typed) > MAX_TYPED_LENGTH  # checked first: composing takes quadratic time
        if too_long or not self.min_length <= len(normalize(typed)) <= MAX_LENGTH:
            raise ValidationError(f"Length must be between {self.min_length} and {MAX_LENGTH}.")
        return typed


class NewPassword(Password):
    """A password for a new account or a password change."""

    min_length = MIN_LENGTH


class CredentialsSchema(BaseSchema):
    """The email address and password of an account."""

    email = Text(required=True, validate=validate.Length(max=320))
    password = Password("The password of the account")

    example = {"email": "ada@example.com", "password": EXAMPLE_PASSWORD}


class AccessTokenSchema(BaseSchema):
    """A new access token."""

    access = fields.String(
        required=True,
        metadata={"description": "Access token: send it as `Authorization: Bearer <token>`"},
    )
    token_type = fields.String(
        required=True,
        validate=validate.Equal("Bearer"),
        metadata={"description": "Scheme of the `Authorization` header"},
    )
    expires_in = fields.Integer(
        required=True,
        metadata={"description": "Lifetime of the access token in seconds", "minimum": 1},
    )

    example = {"access": EXAMPLE_TOKEN, "token_type": "Bearer", "expires_in": 900}


class TokenPairSchema(AccessTokenSchema):
    """An access token and a refresh token."""

    refresh = fields.String(
        required=True,
        metadata={"description": "Refresh token: use it to get new access tokens, and to sign out"},
    )

    example = {**AccessTokenSchema.example, "refresh": EXAMPLE_TOKEN}


class RefreshTokenSchema(BaseSchema):
    """A refresh token."""

    refresh = Text(required=True, validate=TOKEN_LENGTH)

    example = {"refresh": EXAMPLE_TOKEN}


class TokenSchema(BaseSchema):
    """A token of either type."""

    token = Text(required=True, validate=TOKEN_LENGTH)

    example = {"token": EXAMPLE_TOKEN}


class EmptySchema(BaseSchema):
    """An empty object."""

    example: dict[str, str] = {}
