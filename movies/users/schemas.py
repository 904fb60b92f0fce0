"""Schemas of accounts."""

from email_validator import EmailNotValidError
from marshmallow import ValidationError, fields, validate

from movies.auth import emails
from movies.auth.schemas import EXAMPLE_PASSWORD, NewPassword, Password
from movies.schemas import BaseSchema, Id, ResourceUpdate, Text

NAME_LENGTH = validate.Length(max=150)
FIRST_NAME = {"description": "May be empty", "example": "Ada"}
LAST_NAME = {"description": "May be empty", "example": "Lovelace"}
PASSWORD_RULE = "Must not be easy to guess; any characters are allowed"  # noqa: S105
EXAMPLE_NEW_PASSWORD = "notes on the analytical engine"  # noqa: S105


def _is_email(email: str) -> None:
    try:
        emails.validate(email)
    except EmailNotValidError as error:
        raise ValidationError(str(error)) from None


class UserCreateSchema(BaseSchema):
    """A new account."""

    email = Text(
        required=True,
        trim=True,
        validate=[validate.Length(max=emails.MAX_LENGTH), _is_email],
        metadata={
            "format": "email",
            "description": "Identifies one account, regardless of letter case",
            "example": "ada@example.com",
        },
    )
    password = NewPassword(PASSWORD_RULE, EXAMPLE_PASSWORD)
    first_name = Text(validate=NAME_LENGTH, metadata=FIRST_NAME)
    last_name = Text(validate=NAME_LENGTH, metadata=LAST_NAME)

    example = {
        "email": "ada@example.com",
        "password": EXAMPLE_PASSWORD,
        "first_name": "Ada",
        "last_name": "Lovelace",
    }


class UserSchema(BaseSchema):
    """An account."""

    id = Id(required=True, metadata={"example": 7})
    email = fields.String(
        required=True,
        metadata={
            "format": "email",
            "description": "As given at registration",
            "example": "ada@example.com",
        },
    )
    first_name = fields.String(required=True, metadata=FIRST_NAME)
    last_name = fields.String(required=True, metadata=LAST_NAME)

    example = {
        "id": 7,
        "email": "ada@example.com",
        "first_name": "Ada",
        "last_name": "Lovelace",
    }


class UserUpdateSchema(ResourceUpdate):
    """The names to change. Read-only members are accepted and ignored."""

    id = Id(dump_only=True, metadata={"example": 7})
    email = fields.String(
        dump_only=True, metadata={"format": "email", "example": "ada@example.com"}
    )
    first_name = Text(validate=NAME_LENGTH, metadata={**FIRST_NAME, "example": "Augusta Ada"})
    last_name = Text(validate=NAME_LENGTH, metadata=LAST_NAME)

    example = {"first_name": "Augusta Ada"}


class PasswordUpdateSchema(BaseSchema):
    """A password change."""

    current_password = Password("The current password", EXAMPLE_PASSWORD)
    new_password = NewPassword(PASSWORD_RULE, EXAMPLE_NEW_PASSWORD)

    example = {"current_password": EXAMPLE_PASSWORD, "new_password": EXAMPLE_NEW_PASSWORD}
