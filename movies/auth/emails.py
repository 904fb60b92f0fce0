"""Email addresses."""

from email_validator import EmailNotValidError, ValidatedEmail, validate_email

MAX_LENGTH = 254  # characters (RFC 5321: 256 octets with its angle brackets)


def normalized(address: str) -> str:
    """The address with its characters composed (NFC) and its domain in Unicode.

    Raises EmailNotValidError, whose text says what is wrong.
    """
    return _validated(address).normalized


def address_key(address: str) -> str:
    """A key that is the same for two addresses exactly if they identify the same account.

    The local part is case-folded. The domain is in its ASCII form (IDNA 2008), so that
    `straße.example` and `strasse.example` differ, as they do in DNS. A text that is not an address
    has a key that no account has.
    """
    address = address.strip()
    try:
        checked = _validated(address)
    except EmailNotValidError:
        return address.casefold()
    return f"{checked.local_part.casefold()}@{checked.ascii_domain}"


def _validated(address: str) -> ValidatedEmail:
    if len(address) > MAX_LENGTH:  # first: composing a long text takes time by its length squared
        raise EmailNotValidError("The email address is too long.")
    return validate_email(address, check_deliverability=False, globally_deliverable=False)
