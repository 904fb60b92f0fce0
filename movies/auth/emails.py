"""Validates email addresses, and decides which ones are equal."""

from email_validator import EmailNotValidError, ValidatedEmail, validate_email

MAX_LENGTH = 254  # characters (RFC 5321: 256 octets with its angle brackets)


def validate(address: str) -> ValidatedEmail:
    """The parts of a valid address. Raises EmailNotValidError, whose text can be shown to users."""
    if len(address) > MAX_LENGTH:  # checked first, because composing takes quadratic time
        raise EmailNotValidError("The email address is too long.")
    return validate_email(address, check_deliverability=False, globally_deliverable=False)


def address_key(address: str) -> str:
    """The key of an address. Two addresses identify the same account if their keys are equal.

    The local part is case-folded. The domain is in its ASCII form (IDNA 2008), so that
    `straße.example` and `strasse.example` differ, as they do in DNS. An invalid address gets a key
    that no account has.
    """
    address = address.strip()
    try:
        checked = validate(address)
    except EmailNotValidError:
        return address.casefold()
    return f"{checked.local_part.casefold()}@{checked.ascii_domain}"
