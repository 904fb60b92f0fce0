"""Shapes of signing in."""

from marshmallow import fields, validate

from movies.schemas import BaseSchema, Text
from movies.users.passwords import MAX_LENGTH

TOKEN_LENGTH = validate.Length(max=4096)
EXAMPLE_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"


class CredentialsSchema(BaseSchema):
    """Whom to sign in."""

    email = Text(required=True, validate=validate.Length(max=320))
    password = Text(required=True, validate=validate.Length(max=MAX_LENGTH))

    example = {"email": "ada@example.com", "password": "lovelace-and-babbage"}


class TokenPairSchema(BaseSchema):
    """What signing in gives."""

    access = fields.String(required=True, metadata={"description": "For `Authorization: Bearer`"})
    refresh = fields.String(
        required=True, metadata={"description": "For new access tokens, and for signing out"}
    )

    example = {"access": EXAMPLE_TOKEN, "refresh": EXAMPLE_TOKEN}


class RefreshTokenSchema(BaseSchema):
    """A refresh token."""

    refresh = Text(required=True, validate=TOKEN_LENGTH)

    example = {"refresh": EXAMPLE_TOKEN}


class AccessTokenSchema(BaseSchema):
    """A new access token."""

    access = fields.String(required=True)

    example = {"access": EXAMPLE_TOKEN}


class TokenSchema(BaseSchema):
    """A token of either type."""

    token = Text(required=True, validate=TOKEN_LENGTH)

    example = {"token": EXAMPLE_TOKEN}


class NothingSchema(BaseSchema):
    """An empty object."""

    example: dict[str, str] = {}
