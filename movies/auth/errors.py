"""Exceptions of authentication."""


class NotAuthenticated(Exception):
    """The request carries no token that is valid for it."""


class MissingToken(NotAuthenticated):
    """There is no bearer token in the `Authorization` header."""


class MalformedToken(NotAuthenticated):
    """The token cannot be read, was not issued by this service, or is not valid yet."""


class WrongTokenType(NotAuthenticated):
    """An access token was sent where a refresh token is required, or the other way round."""


class ExpiredToken(NotAuthenticated):
    """The token's lifetime is over."""


class RevokedToken(NotAuthenticated):
    """The sign-in that the token belongs to was ended, or its account was deleted."""


# What is wrong with a token that was sent.
INVALID_TOKEN = (MalformedToken, WrongTokenType, ExpiredToken, RevokedToken)


class BadCredentials(Exception):
    """No account has this email address and password; which one is wrong is not revealed."""


class TooManyAtOnce(Exception):
    """Every processor is busy with passwords."""
