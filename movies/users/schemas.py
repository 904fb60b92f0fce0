"""Shapes of accounts."""

from typing import Any

from email_validator import EmailNotValidError
from marshmallow import ValidationError, fields, validate

from movies.auth.emails import MAX_LENGTH as MAX_ADDRESS_LENGTH
from movies.auth.emails import normalized
from movies.auth.passwords import MAX_LENGTH, MIN_LENGTH
from movies.schemas import BaseSchema, ResourceUpdate, Text

PASSWORD_LENGTH = validate.Length(MIN_LENGTH, MAX_LENGTH)
NAME_LENGTH = validate.Length(max=150)


def _is_address(address: str) -> None:
    try:
        normalized(address)
    except EmailNotValidError as error:
        raise ValidationError(str(error)) from None


def _email(**kwargs: Any) -> Text:
    kwargs["metadata"] = {"format": "email", "description": "One account whatever its letter case"}
    return Text(
        trim=True, validate=[validate.Length(max=MAX_ADDRESS_LENGTH), _is_address], **kwargs
    )


class RegistrationSchema(BaseSchema):
    """A new account."""

    email = _email(required=True)
    password = Text(required=True, load_only=True, validate=PASSWORD_LENGTH)
    first_name = Text(load_default="", validate=NAME_LENGTH)
    last_name = Text(load_default="", validate=NAME_LENGTH)

    example = {
        "email": "ada@example.com",
        "password": "lovelace-and-babbage",
        "first_name": "Ada",
        "last_name": "Lovelace",
    }


class UserSchema(BaseSchema):
    """An account."""

    id = fields.Integer(required=True)
    email = fields.String(required=True, metadata={"format": "email"})
    first_name = fields.String(required=True)
    last_name = fields.String(required=True)

    example = {
        "id": 7,
        "email": "ada@example.com",
        "first_name": "Ada",
        "last_name": "Lovelace",
    }


class UserUpdateSchema(ResourceUpdate):
    """An account as it shall be. Its id and address are read-only."""

    id = fields.Integer(dump_only=True)
    email = fields.String(dump_only=True)
    first_name = Text(validate=NAME_LENGTH)
    last_name = Text(validate=NAME_LENGTH)

    example = {"first_name": "Augusta Ada"}


class PasswordChangeSchema(BaseSchema):
    """A change of password."""

    current_password = Text(required=True, load_only=True, validate=validate.Length(max=MAX_LENGTH))
    new_password = Text(required=True, load_only=True, validate=PASSWORD_LENGTH)

    example = {
        "current_password": "lovelace-and-babbage",
        "new_password": "notes on the analytical engine",
    }
