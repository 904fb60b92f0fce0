"""Password normalization, hashes and strength.

Hashes are argon2id with 19 MiB, 2 passes and 1 lane: the minimum of the OWASP Password Storage
Cheat Sheet, which keeps sign-ins cheap. Workers share the processors: each computes as many hashes
at a time as there are processors per worker. A request that waits too long for its turn is refused,
and so is a request that arrives while MAX_CALLERS others are waiting.
"""

import math
import os
import threading
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn
from zxcvbn.matching import L33T_TABLE

from config import Config
from movies.auth.errors import PasswordChecksBusy

MIN_LENGTH, MAX_LENGTH = 8, 128  # characters, after normalization
MAX_TYPED_LENGTH = 4 * MAX_LENGTH  # before normalization, which composes at most four characters
MIN_SCORE = 2  # of zxcvbn's 0 to 4: more than 10^6 guesses
MAX_CHECKED = 32  # characters
# zxcvbn looks up every substring once for each way to read symbols as letters. The number of ways
# times the square of the length is at most MAX_EFFORT, which takes up to 15 ms of CPU time.
MAX_EFFORT = 4096
TURN_TIMEOUT = 3.0  # seconds
MAX_CALLERS = 64  # requests of one process that hash or check passwords, or wait for it, at once

hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_callers = threading.BoundedSemaphore(MAX_CALLERS)
_at_once = math.ceil((os.cpu_count() or 1) / Config.WEB_CONCURRENCY)
_hashers = threading.BoundedSemaphore(_at_once)
# The C library keeps the memory of a hash for the next one on the same thread. On the threads of
# requests, this took 19 MiB each.
_threads = ThreadPoolExecutor(_at_once, thread_name_prefix="passwords")
_checker = threading.BoundedSemaphore()  # one at a time: zxcvbn's hints are global

T = TypeVar("T")


class Verdict(Enum):
    """Whether a password matches a hash."""

    WRONG = "wrong"
    RIGHT = "right"
    OUTDATED = "right, but needs a new hash"


def normalize(password: str) -> str:
    """The password in the form that is hashed.

    This is the OpaqueString profile of RFC 8265 §4.2, which NIST SP 800-63B recommends: other
    spaces become U+0020, and characters are composed (NFC). No character is refused, folded or
    trimmed.
    """
    spaced = "".join(" " if unicodedata.category(char) == "Zs" else char for char in password)
    return unicodedata.normalize("NFC", spaced)


def hash_password(password: str) -> str:
    """The argon2id hash of the normalized password. Raises PasswordChecksBusy."""
    return _compute(hasher.hash, normalize(password))


def verify(password: str, password_hash: str | None) -> Verdict:
    """Whether the password matches the hash.

    Without a hash, the result is WRONG and takes the same time. A hash that has other parameters,
    or was made before passwords were normalized, is OUTDATED. Raises PasswordChecksBusy.
    """
    return _compute(_verify, password, password_hash)


def weakness(password: str, hints: list[str]) -> str | None:
    """Why the password is too easy to guess, or None if it is not.

    `hints`: words that an attacker would try first, such as the user's name.

    Raises PasswordChecksBusy.
    """
    with _turn(_checker):
        checked = _checked_part(normalize(password))
        result = zxcvbn(checked, user_inputs=[hint for hint in hints if hint])
    if result["score"] >= MIN_SCORE:
        return None
    advice = [result["feedback"]["warning"], *result["feedback"]["suggestions"]]
    return " ".join(["This password is too easy to guess.", *filter(None, advice)])


def _checked_part(password: str) -> str:
    """The longest prefix of the password that zxcvbn can check within MAX_EFFORT.

    A prefix is never harder to guess than the whole password.
    """
    lengths = range(min(len(password), MAX_CHECKED), 0, -1)
    return next(password[:n] for n in lengths if _substitutions(password[:n]) * n * n <= MAX_EFFORT)


def _substitutions(text: str) -> int:
    """The number of ways to read symbols of the text as letters, as in "p4$$w0rd"."""
    return math.prod(
        sum(symbol in text for symbol in symbols) or 1 for symbols in L33T_TABLE.values()
    )


def _compute(function: Callable[..., T], *args: Any) -> T:
    """The function's result, from one of the threads that hash. Raises PasswordChecksBusy."""
    with _turn(_hashers):
        try:
            result = _threads.submit(function, *args)
        except RuntimeError as error:  # no thread can be started
            raise PasswordChecksBusy from error
        return result.result()


def _verify(password: str, password_hash: str | None) -> Verdict:
    normalized = normalize(password)
    if _matches(normalized, password_hash):
        is_outdated = hasher.check_needs_rehash(password_hash or "")
        return Verdict.OUTDATED if is_outdated else Verdict.RIGHT
    if normalized != password and _matches(password, password_hash):
        return Verdict.OUTDATED
    return Verdict.WRONG


def _matches(password: str, password_hash: str | None) -> bool:
    try:
        return hasher.verify(password_hash or _dummy_hash(hasher), password)
    except (VerificationError, InvalidHashError):
        return False


@contextmanager
def _turn(of: threading.Semaphore) -> Iterator[None]:
    if not _callers.acquire(blocking=False):
        raise PasswordChecksBusy
    try:
        if not of.acquire(timeout=TURN_TIMEOUT):
            raise PasswordChecksBusy
        try:
            yield
        finally:
            of.release()
    finally:
        _callers.release()


@cache
def _dummy_hash(hasher: PasswordHasher) -> str:
    """A hash of random bytes with the hasher's parameters, for accounts that do not exist."""
    return hasher.hash(os.urandom(32))
