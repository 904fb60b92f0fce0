"""Schemas of accounts."""

from email_validator import EmailNotValidError
from marshmallow import ValidationError, fields, validate

from movies.auth import emails
from movies.auth.schemas import EXAMPLE_PASSWORD, NewPassword, Password
from movies.schemas import BaseSchema, Id, ResourceUpdate, Text

NAME_LENGTH = validate.Length(max=150)
NAME = {"description": "May be empty"}
PASSWORD_RULE = "Must not be easy to guess; all characters but NUL are allowed"  # noqa: S105
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
        },
    )
    password = NewPassword(PASSWORD_RULE)
    first_name = Text(validate=NAME_LENGTH, metadata=NAME)
    last_name = Text(validate=NAME_LENGTH, metadata=NAME)

    example = {
        "email": "ada@example.com",
        "password": EXAMPLE_PASSWORD,
        "first_name": "Ada",
        "last_name": "Lovelace",
    }


class UserSchema(BaseSchema):
    """An account."""

    id = Id(required=True)
    email = fields.String(
        required=True, metadata={"format": "email", "description": "As given at registration"}
    )
    first_name = fields.String(required=True, metadata=NAME)
    last_name = fields.String(required=True, metadata=NAME)

    example = {"id": 7, "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace"}


class UserUpdateSchema(ResourceUpdate):
    """The names to change. Read-only members are accepted and ignored."""

    id = Id(dump_only=True)
    email = fields.String(dump_only=True, metadata={"format": "email"})
    first_name = Text(validate=NAME_LENGTH, metadata=NAME)
    last_name = Text(validate=NAME_LENGTH, metadata=NAME)

    example = {"first_name": "Augusta Ada"}


class PasswordUpdateSchema(BaseSchema):
    """A password change."""

    current_password = Password("The current password")
    new_password = NewPassword(PASSWORD_RULE)

    example = {"current_password": EXAMPLE_PASSWORD, "new_password": EXAMPLE_NEW_PASSWORD}
