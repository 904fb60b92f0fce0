"""Settings, read from the environment and from `.env` beside this file.

`MOVIES_CONFIG` selects the class: `development`, `testing` or `production`. Every setting can also
be the content of a file: `DATABASE_URL_FILE=/run/secrets/database_url` sets `DATABASE_URL`.
If settings are invalid, the process exits here, with one line for each of them. A misspelled
setting, or a key too short for production, causes a warning.
"""

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from environs import EnvValidationError, FileAwareEnv, ValidationError, validate
from redis import ConnectionPool, RedisError

ROOT = Path(__file__).resolve().parent
TEN_YEARS = 10 * 365 * 24 * 3600  # seconds

HOST = r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?"
HTTP_URL = rf"https?://([^\s/?#@]*@)?{HOST}(/[^\s?#]*)?"
# In ASCII, since links are made from it (RFC 3986); an internationalized name as `xn--…`.
PUBLIC_URL = rf"(?a:https?://{HOST}(/[\w.~/%-]*)?)"
# An origin as browsers send it (RFC 6454 section 6.2): lower case, nothing after host and port.
ORIGIN = r"[a-z][a-z0-9+.-]*://([a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:\d{1,5})?"
POSTGRESQL_URL = r"postgres(ql(\+psycopg)?)?://([^@\s]*@)?([\w.%,-]+|\[[\da-fA-F:]+\])?(:\d+)?"
SQLITE_URL = r"sqlite(\+pysqlite)?:///(?!:memory:)[^?]+"
# These options are numbers, if they are given.
NUMBERS = r"(?!\S*[?&](timeout=(?!\d+(\.\d+)?(&|\Z))|prepare_threshold=(?!\d+(&|\Z))))"
DATABASE_URL = rf"{NUMBERS}({POSTGRESQL_URL}(/[^\s?]*)?|{SQLITE_URL})(\?\S*)?"
REDIS_URL = rf"rediss?://([^\s/?#@]*@)?({HOST})?(/\d*)?(\?\S*)?|unix://([^/\s]*@)?/\S+"

env = FileAwareEnv(eager=False, strip_whitespace=True)
if env_file := os.environ.get("MOVIES_ENV_FILE", str(ROOT / ".env")):
    if "MOVIES_ENV_FILE" in os.environ and not os.access(env_file, os.R_OK):
        sys.exit("Error: MOVIES_ENV_FILE must be a readable file, such as .env, or empty")
    env.read_env(env_file, recurse=False)
GIVEN = {*os.environ, *(dotenv_values(env_file) if env_file else ())}  # names
EXPECTED: dict[str, str] = {}  # what the value of each setting must be, with an example


def setting(read: Callable[..., Any], name: str, default: Any, must: str, check: Any = None) -> Any:
    """The value of a setting, or `default`; `...` makes it required. `must` completes "must …"."""
    EXPECTED[name] = must
    try:
        return read(name, default, validate=check)
    except ValueError:
        sys.exit(f"Error: {name}_FILE must be a readable text file, such as /run/secrets/{name}")


def number(name: str, default: float, least: float, most: float, kind: Any = env.int) -> Any:
    """A number between two bounds, both allowed."""
    must = f"be a {'whole ' * (kind == env.int)}number from {least} to {most}, such as {default}"
    return setting(kind, name, default, must, validate.Range(least, most))


def text(name: str, default: Any, must: str, pattern: str, *checks: Callable[[str], None]) -> Any:
    """A string that matches a pattern and passes checks; an empty one counts as not set."""
    whole = validate.Regexp(rf"(?:{pattern}){'' if default is ... else '?'}\Z")
    value = setting(env.str, name, default, must, [whole, *checks])
    return value or ("" if default is ... else default)


def is_short(secret: str) -> bool:
    """Whether a key has fewer than 32 bytes (RFC 7518 section 3.2)."""
    return len(secret.encode(errors="surrogateescape")) < 32


def check_key(secret: str) -> None:
    """Reject a short key in production."""
    if IN_PRODUCTION and is_short(secret):
        raise ValidationError("too short")


def check_writable(directory: str) -> None:
    """Reject a directory that can be neither written to nor created."""
    path = Path(directory or ROOT / "instance").absolute()
    while not path.exists():
        path = path.parent
    try:
        tempfile.TemporaryFile(dir=path).close()
    except OSError:
        raise ValidationError("not writable") from None


def check_hosts(urls: str) -> None:
    """Reject URLs with an invalid port or IPv6 address."""
    try:
        for url in map(urlsplit, urls.replace(",", " ").split()):
            if url.port == 0:
                raise ValueError
            if "[" in url.netloc:
                IPv6Address(url.hostname or "")
    except ValueError:
        raise ValidationError("no such host") from None


def check_origins(origins: str) -> None:
    """Reject origins that browsers write differently: a default port, a longer IPv6 address."""
    check_hosts(origins)
    for url in map(urlsplit, origins.replace(",", " ").split()):
        host = f"[{IPv6Address(url.hostname or '')}]" if "[" in url.netloc else url.hostname
        is_default = url.port == {"http": 80, "https": 443}.get(url.scheme)
        if url.netloc != (host if is_default or not url.port else f"{host}:{url.port}"):
            raise ValidationError("no browser sends it")


def check_redis_url(url: str) -> None:
    """Reject a URL whose port or options redis-py cannot use; no connection is made."""
    try:
        if url:
            ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, RedisError):
        raise ValidationError("not usable") from None


MOVIES_CONFIG = text(
    "MOVIES_CONFIG",
    "development",
    "be development, testing or production",
    "development|testing|production",
)
IN_PRODUCTION = MOVIES_CONFIG == "production"
# IPv4 and IPv6 if the machine has IPv6, else IPv4.
ALL_INTERFACES = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104


class Config:
    """The settings of `development`; the other configurations override some of them."""

    API_VERSION = "1.0.0"
    # The commit that the release was built from, for /health/live.
    REVISION = text("REVISION", "", "be one word, such as 6148f6f", r"\S+")

    # The directory for local data: SQLite database, provider cache, development secret, metrics.
    INSTANCE_DIR = Path(
        setting(
            env.str, "INSTANCE_DIR", "", "be a writable directory, such as instance", check_writable
        )
        or ROOT / "instance"
    ).absolute()
    # A SQLAlchemy URL; by default a SQLite file in INSTANCE_DIR, but production requires one.
    DATABASE_URL = text(
        "DATABASE_URL",
        ... if IN_PRODUCTION else "",
        "be set to the URL of a PostgreSQL or SQLite database, "
        "such as postgresql://movies:secret@127.0.0.1:5432/movies",
        DATABASE_URL,
    )
    # If set: the provider cache, rate limits and anything else that processes share.
    REDIS_URL = text(
        "REDIS_URL",
        "",
        "be a URL that starts with redis://, rediss:// or unix://, with options of redis-py, "
        "such as redis://127.0.0.1:6379/0 or unix:///run/redis/redis.sock?db=1",
        REDIS_URL,
        check_redis_url,
    )

    # The URL of November 7; without one, the embedded sample catalogue.
    NOVEMBER7_URL = text(
        "NOVEMBER7_URL",
        "",
        "be an HTTP URL without a query string, such as http://127.0.0.1:8007/",
        HTTP_URL,
        check_hosts,
    )
    # Seconds for which a page of November 7 is fresh.
    NOVEMBER7_TTL = number("NOVEMBER7_TTL", 3600, 1, TEN_YEARS)
    # Seconds beyond that for which it may still be served.
    NOVEMBER7_STALE = number("NOVEMBER7_STALE", 604800, 0, TEN_YEARS)
    # Bytes of the provider cache, beyond which the oldest pages are removed.
    NOVEMBER7_CACHE_BYTES = number("NOVEMBER7_CACHE_BYTES", 256 * 1024**2, 1024**2, 1024**4)
    # Seconds that one search may spend on November 7, retries included.
    NOVEMBER7_DEADLINE = number("NOVEMBER7_DEADLINE", 10.0, 0.05, 600, env.float)
    # Concurrent requests to November 7, per process.
    NOVEMBER7_CONCURRENCY = number("NOVEMBER7_CONCURRENCY", 8, 1, 1000)

    # The key that signs tokens; generated at the first run in development.
    JWT_SECRET_KEY = setting(
        env.str,
        "JWT_SECRET_KEY",
        ... if IN_PRODUCTION else "",
        "be set to a secret of 32 bytes or more, such as the output of `openssl rand -hex 32`",
        check_key,
    )
    # The previous key: tokens that it signed stay valid.
    JWT_SECRET_KEY_PREVIOUS = setting(
        env.str,
        "JWT_SECRET_KEY_PREVIOUS",
        "",
        "be empty or the previous JWT_SECRET_KEY of 32 bytes or more",
        lambda key: check_key(key) if key else None,
    )
    # Seconds for which an access token and a refresh token are valid.
    JWT_ACCESS_TOKEN_EXPIRES = number("JWT_ACCESS_TOKEN_EXPIRES", 900, 1, TEN_YEARS)
    JWT_REFRESH_TOKEN_EXPIRES = number("JWT_REFRESH_TOKEN_EXPIRES", 2592000, 1, TEN_YEARS)
    # Seconds that the clocks of two instances may differ (RFC 7519 section 4.1.4).
    JWT_DECODE_LEEWAY = 10
    JWT_ALGORITHM = "HS256"
    JWT_DECODE_ALGORITHMS = ("HS256",)
    JWT_ENCODE_ISSUER = JWT_DECODE_ISSUER = "movies-api"
    JWT_ENCODE_AUDIENCE = JWT_DECODE_AUDIENCE = "movies-api"

    # Number of proxies in front whose X-Forwarded-For and X-Forwarded-Proto are trusted.
    TRUSTED_PROXIES = number("TRUSTED_PROXIES", 0, 0, 100)
    # The URL at which clients reach the service, if it differs from the one in Host.
    PUBLIC_URL = text(
        "PUBLIC_URL",
        "",
        "be an HTTP URL in ASCII without a query string, such as https://movies.example.com/base",
        PUBLIC_URL,
        check_hosts,
    ).rstrip("/")
    # Rate limits on sign-in, registration and the API.
    RATELIMIT_ENABLED = setting(env.bool, "RATELIMIT_ENABLED", True, "be true or false")
    # Origins, comma-separated, whose pages may call the API.
    CORS_ORIGINS = (
        text(
            "CORS_ORIGINS",
            "",
            "be origins without a path, a trailing slash, a default port or a wildcard, separated "
            "by commas, such as https://app.example.com,http://localhost:3000",
            rf"\s*{ORIGIN}([\s,]+{ORIGIN})*[\s,]*",
            check_origins,
        )
        .replace(",", " ")
        .split()
    )
    MAX_CONTENT_LENGTH = 1024 * 1024  # bytes of a request's body

    # The host name or IP address, and the port, to listen on.
    HOST = text(
        "HOST",
        ALL_INTERFACES if IN_PRODUCTION else "127.0.0.1",
        "be a host name or an IP address, such as 127.0.0.1",
        r"[\w.:-]+",
    )
    PORT = number("PORT", 8000, 1, 65535)
    # Seconds for which an idle connection is kept, more than the load balancer keeps it.
    KEEPALIVE = number("KEEPALIVE", 75, 1, 86400)
    # Gunicorn workers; by default one per processor. movies/worker.py has 256 slots.
    WEB_CONCURRENCY = number("WEB_CONCURRENCY", min(os.cpu_count() or 1, 256), 1, 256)
    HSTS = False  # whether browsers are told to use HTTPS only


class Testing(Config):
    """For test suites, which pass further settings to `create_app`."""

    TESTING = True
    PROPAGATE_EXCEPTIONS = False


class Production(Config):
    """For production: no default secret or database, and the live provider."""

    NOVEMBER7_URL = Config.NOVEMBER7_URL or "https://november7-730026606190.europe-west1.run.app/"
    HSTS = True


try:
    env.seal()
except EnvValidationError as wrong:
    sys.exit("\n".join(f"Error: {name} must {EXPECTED[name]}" for name in wrong.error_messages))


def warnings() -> Iterator[str]:
    """What is probably a mistake in the environment."""
    for name in ("JWT_SECRET_KEY", "JWT_SECRET_KEY_PREVIOUS"):
        if (key := getattr(Config, name)) and is_short(key):
            yield f"{name} has fewer than 32 bytes, which production refuses"
    names = {*EXPECTED, "MOVIES_ENV_FILE"}
    long_names = [name for name in names if "_" in name]  # a short one is similar to many others
    for name in sorted(GIVEN - names):
        if name.removesuffix("_FILE") not in names:
            for near in get_close_matches(name.removesuffix("_FILE"), long_names, 1, 0.85):
                yield f"{name} is not a setting. Did you mean {near}?"


if "MOVIES_WARNED" not in os.environ:  # set by `make`, whose first command has printed them
    for warning in warnings():
        print(f"Warning: {warning}", file=sys.stderr)

CONFIGS = {"development": Config, "testing": Testing, "production": Production}
