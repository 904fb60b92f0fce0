"""Shapes of signing in."""

from marshmallow import fields, validate

from movies.auth.passwords import MAX_LENGTH
from movies.schemas import BaseSchema, Text

TOKEN_LENGTH = validate.Length(max=4096)
A_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"


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

    example = {"access": A_JWT, "refresh": A_JWT}


class RefreshTokenSchema(BaseSchema):
    """A refresh token."""

    refresh = Text(required=True, validate=TOKEN_LENGTH)

    example = {"refresh": A_JWT}


class AccessTokenSchema(BaseSchema):
    """A new access token."""

    access = fields.String(required=True)

    example = {"access": A_JWT}


class TokenSchema(BaseSchema):
    """A token of either type."""

    token = Text(required=True, validate=TOKEN_LENGTH)

    example = {"token": A_JWT}


class NothingSchema(BaseSchema):
    """An empty object."""

    example: dict[str, str] = {}
