"""Exceptions of authentication."""


class NotAuthenticated(Exception):
    """The request has no valid token."""


class MissingToken(NotAuthenticated):
    """The `Authorization` header has no bearer token."""


class MalformedToken(NotAuthenticated):
    """The token cannot be read, was not issued by this service, or is not valid yet."""


class WrongTokenType(NotAuthenticated):
    """An access token was sent where a refresh token is required, or the other way round."""


class ExpiredToken(NotAuthenticated):
    """The token has expired."""


class RevokedToken(NotAuthenticated):
    """The token's sign-in has ended, or its account was deleted."""


# The possible errors of a token that was sent.
TOKEN_ERRORS = (MalformedToken, WrongTokenType, ExpiredToken, RevokedToken)


class InvalidCredentials(Exception):
    """No account has this email address and password."""


class PasswordChecksBusy(Exception):
    """Too many passwords are being hashed or checked at the same time."""
