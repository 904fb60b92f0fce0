"""An application to be measured, and how to measure it."""

import logging
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from flask_migrate import upgrade

from movies import create_app

PASSWORD = "lovelace-and-babbage"


def application(directory: Path, **settings: Any) -> Flask:
    """A migrated application of its own, without rate limits, that logs only errors."""
    own = {
        "INSTANCE_DIR": directory,
        "DATABASE_URL": os.environ.get("DATABASE_URL", ""),
        "REDIS_URL": os.environ.get("REDIS_URL", ""),
        "NOVEMBER7_URL": "",
        "RATELIMIT_ENABLED": False,
    }
    app = create_app("testing", {**own, **settings})
    logging.getLogger("movies").setLevel(logging.ERROR)
    with app.app_context():
        upgrade()
    return app


def signed_in(app: Flask) -> dict[str, str]:
    """The headers of a new user who is signed in."""
    client = app.test_client()
    account = {"email": f"bench-{time.time_ns()}@example.com", "password": PASSWORD}
    client.post("/api/v1/users/register/", json=account)
    access = client.post("/api/v1/auth/token/", json=account).get_json()["access"]
    return {"Authorization": f"Bearer {access}"}


def seconds(call: Callable[[], Any], times: int) -> float:
    """The median of what one of `times` calls took."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)
