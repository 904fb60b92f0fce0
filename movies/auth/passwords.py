"""Password normalization, hashes and strength.

Hashes are argon2id with 19 MiB, 2 passes and 1 lane: the minimum of the OWASP Password Storage
Cheat Sheet, chosen over larger settings so that sign-ins stay cheap. At most as many are computed
at once as there are processors; a request that waits too long for its turn is refused.
"""

import math
import os
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn
from zxcvbn.matching import L33T_TABLE

from movies.auth.errors import TooManyAtOnce

MIN_LENGTH, MAX_LENGTH = 8, 128  # characters, after normalization
MAX_TYPED_LENGTH = 4 * MAX_LENGTH  # before it: NFC composes at most four characters to one
MIN_SCORE = 2  # of zxcvbn's 0 to 4: more than 10^6 guesses
MAX_JUDGED = 32  # characters
# zxcvbn looks up every substring once for each way to read symbols as letters. This many times the
# square of a length take it at most some 15 ms of CPU; without a bound it was 0.8 s.
MAX_EFFORT = 4096
TURN_TIMEOUT = 3.0  # seconds

hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_hashers = threading.BoundedSemaphore(os.cpu_count() or 1)
_judge = threading.BoundedSemaphore()  # one: zxcvbn keeps hints where all threads see them
_unknown: dict[PasswordHasher, str] = {}


class Verdict(Enum):
    """Whether a password is the one that was hashed."""

    WRONG = "wrong"
    RIGHT = "right"
    OUTDATED = "right, but to be hashed anew"


def normalize(password: str) -> str:
    """The password in the one form that is hashed.

    The OpaqueString profile of RFC 8265 §4.2, as NIST SP 800-63B recommends: other spaces become
    U+0020, and characters are composed (NFC). Nothing is forbidden, folded or trimmed.
    """
    spaced = "".join(" " if unicodedata.category(char) == "Zs" else char for char in password)
    return unicodedata.normalize("NFC", spaced)


def hash_password(password: str) -> str:
    """The argon2id hash of the normalized password. Raises TooManyAtOnce."""
    with _turn(_hashers):
        return hasher.hash(normalize(password))


def verify(password: str, password_hash: str | None) -> Verdict:
    """Whether the hash is of this password. Without a hash it is wrong, after the same time.

    A hash made before passwords were normalized is of the password as it was typed; it is
    outdated, and so is one with other parameters. Raises TooManyAtOnce.
    """
    with _turn(_hashers):
        spelling = normalize(password)
        if _matches(spelling, password_hash):
            is_outdated = hasher.check_needs_rehash(password_hash or "")
            return Verdict.OUTDATED if is_outdated else Verdict.RIGHT
        if spelling != password and _matches(password, password_hash):
            return Verdict.OUTDATED
        return Verdict.WRONG


def weakness(password: str, hints: list[str]) -> str | None:
    """Why the password is too easy to guess; None if it is not.

    `hints` are words that an attacker would try first, such as the user's name. Raises
    TooManyAtOnce.
    """
    with _turn(_judge):
        judged = zxcvbn(
            _judged_part(normalize(password)), user_inputs=[hint for hint in hints if hint]
        )
    if judged["score"] >= MIN_SCORE:
        return None
    advice = [judged["feedback"]["warning"], *judged["feedback"]["suggestions"]]
    return " ".join(["This password is too easy to guess.", *filter(None, advice)])


def _judged_part(password: str) -> str:
    """The longest beginning of the password that zxcvbn judges within MAX_EFFORT.

    A beginning is as easy to guess as the whole password, or easier.
    """
    lengths = range(min(len(password), MAX_JUDGED), 0, -1)
    return next(password[:n] for n in lengths if _readings(password[:n]) * n * n <= MAX_EFFORT)


def _readings(text: str) -> int:
    """In how many ways symbols of the text can be read as letters, as in "p4$$w0rd"."""
    return math.prod(
        sum(symbol in text for symbol in symbols) or 1 for symbols in L33T_TABLE.values()
    )


def _matches(password: str, password_hash: str | None) -> bool:
    try:
        return hasher.verify(password_hash or _hash_of_unknown(), password)
    except (VerificationError, InvalidHashError):
        return False


@contextmanager
def _turn(of: threading.Semaphore) -> Iterator[None]:
    if not of.acquire(timeout=TURN_TIMEOUT):
        raise TooManyAtOnce
    try:
        yield
    finally:
        of.release()


def _hash_of_unknown() -> str:
    """A hash that no password matches in practice, made once with today's parameters."""
    if hasher not in _unknown:
        _unknown[hasher] = hasher.hash(os.urandom(32))
    return _unknown[hasher]
