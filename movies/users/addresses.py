"""E-mail addresses."""

from contextlib import suppress

from email_validator import EmailNotValidError, validate_email


def normalized(address: str) -> str:
    """The address in its one spelling, letter case aside: Unicode composed, domain decoded.

    Raises EmailNotValidError, whose text says what is wrong with the address.
    """
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
