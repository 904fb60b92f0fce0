"""Password hashes and password strength.

argon2id with 19 MiB, 2 passes and 1 lane: the OWASP Password Storage Cheat Sheet's minimum, chosen
over larger settings so that sign-ins stay cheap for the worker. As many hashes are computed at
once as there are processors; who waits too long for a turn is told to come back.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn

from movies.auth.errors import TooManyAtOnce

MIN_LENGTH, MAX_LENGTH = 8, 128  # characters
LEAST_SCORE = 2  # of zxcvbn's 0 to 4: more than 10^6 guesses
JUDGED = 32  # characters that zxcvbn looks at: it takes seconds for long ones made for that
TURN_TIMEOUT = 3.0  # seconds

hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_hashers = threading.BoundedSemaphore(os.cpu_count() or 1)
_judge = threading.BoundedSemaphore()  # one: zxcvbn keeps the hints where all threads see them
_nobody: dict[PasswordHasher, str] = {}


def hash_password(password: str) -> str:
    """The argon2id hash, parameters and salt included. Raises TooManyAtOnce."""
    with _turn(_hashers):
        return hasher.hash(password)


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether the hash is of this password. Without a hash: no, after the same time.

    Raises TooManyAtOnce.
    """
    with _turn(_hashers):
        try:
            return hasher.verify(password_hash or _hash_of_nobody(), password)
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return hasher.check_needs_rehash(password_hash)


def weakness(password: str, hints: list[str]) -> str | None:
    """Why the password is too easy to guess, with `hints` of who chose it; None if it isn't.

    Raises TooManyAtOnce.
    """
    with _turn(_judge):
        judged = zxcvbn(password[:JUDGED], user_inputs=[hint for hint in hints if hint])
    if judged["score"] >= LEAST_SCORE:
        return None
    advice = [judged["feedback"]["warning"], *judged["feedback"]["suggestions"]]
    return " ".join(["This password is too easy to guess.", *filter(None, advice)])


@contextmanager
def _turn(of: threading.Semaphore) -> Iterator[None]:
    if not of.acquire(timeout=TURN_TIMEOUT):
        raise TooManyAtOnce
    try:
        yield
    finally:
        of.release()


def _hash_of_nobody() -> str:
    """A hash that no password matches in practice, made once with today's parameters."""
    if hasher not in _nobody:
        _nobody[hasher] = hasher.hash(os.urandom(32))
    return _nobody[hasher]
