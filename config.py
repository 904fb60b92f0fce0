"""Settings, read from the environment and, where there is one, from `.env` beside this file.

`MOVIES_CONFIG` picks the class: `development`, `testing` or `production`. README.md has the table
of what each setting means.
"""

import os
from pathlib import Path

from environs import Env, validate

ROOT = Path(__file__).resolve().parent

env = Env()
env.read_env(str(ROOT / ".env"), recurse=False)
positive = validate.Range(min=0, min_inclusive=False)
seconds = validate.Range(min=1, max=10 * 365 * 24 * 3600)


class Config:
    """What every environment shares."""

    API_VERSION = "1.0.0"
    REVISION = env.str("REVISION", "")  # the commit that was built, for /health/live

    INSTANCE_DIR = Path(env.str("INSTANCE_DIR", "") or ROOT / "instance").absolute()

    DATABASE_URL = env.str("DATABASE_URL", "")
    REDIS_URL = env.str("REDIS_URL", "")

    NOVEMBER7_URL = env.str("NOVEMBER7_URL", "")
    NOVEMBER7_TTL = env.int("NOVEMBER7_TTL", 3600, validate=seconds)
    NOVEMBER7_STALE = env.int(
        "NOVEMBER7_STALE", 604800, validate=validate.Range(min=0, max=seconds.max)
    )
    NOVEMBER7_DEADLINE = env.float("NOVEMBER7_DEADLINE", 10.0, validate=positive)
    NOVEMBER7_CONCURRENCY = env.int("NOVEMBER7_CONCURRENCY", 8, validate=positive)

    JWT_SECRET_KEY = env.str("JWT_SECRET_KEY", "")
    JWT_SECRET_KEY_PREVIOUS = env.str("JWT_SECRET_KEY_PREVIOUS", "")
    JWT_ACCESS_TOKEN_EXPIRES = env.int("JWT_ACCESS_TOKEN_EXPIRES", 900, validate=seconds)
    JWT_REFRESH_TOKEN_EXPIRES = env.int("JWT_REFRESH_TOKEN_EXPIRES", 2592000, validate=seconds)
    JWT_ALGORITHM = "HS256"
    JWT_DECODE_ALGORITHMS = ("HS256",)
    JWT_ENCODE_ISSUER = JWT_DECODE_ISSUER = "movies-api"
    JWT_ENCODE_AUDIENCE = JWT_DECODE_AUDIENCE = "movies-api"

    TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", 0, validate=validate.Range(min=0))
    RATELIMIT_ENABLED = env.bool("RATELIMIT_ENABLED", True)
    CORS_ORIGINS = env.str("CORS_ORIGINS", "").replace(",", " ").split()
    PORT = env.int("PORT", 8000)
    WEB_CONCURRENCY = env.int("WEB_CONCURRENCY", os.cpu_count() or 1, validate=positive)
    HSTS = False
    REQUIRE_SECRETS = False

    MAX_CONTENT_LENGTH = 1024 * 1024


class Development(Config):
    """On one's own machine: everything that is needed is embedded."""


class Testing(Config):
    """For test suites; what a test varies, it passes to `create_app`."""

    TESTING = True
    PROPAGATE_EXCEPTIONS = False


class Production(Config):
    """In front of users: no default secret, and the live provider."""

    NOVEMBER7_URL = Config.NOVEMBER7_URL or ("https://november7-730026606190.europe-west1.run.app/")
    HSTS = True
    REQUIRE_SECRETS = True


CONFIGS = {"development": Development, "testing": Testing, "production": Production}
MOVIES_CONFIG = env.str("MOVIES_CONFIG", "") or "development"
