"""E-mail addresses."""

from contextlib import suppress

from email_validator import EmailNotValidError, validate_email

MAX_LENGTH = 254  # characters (RFC 5321: 256 octets with its angle brackets)


def normalized(address: str) -> str:
    """The address in its one spelling, letter case aside: Unicode composed, domain decoded.

    Raises EmailNotValidError, whose text says what is wrong with the address.
    """
    if len(address) > MAX_LENGTH:  # first: composing a long text takes time by its length squared
        raise EmailNotValidError("The email address is too long.")
    checked = validate_email(address, check_deliverability=False, globally_deliverable=False)
    return checked.normalized


def address_key(address: str) -> str:
    """What is equal for two addresses just where they are one account.

    What isn't an address has a key too, which no account has.
    """
    address = address.strip()
    with suppress(EmailNotValidError):
        address = normalized(address)
    return address.casefold()
