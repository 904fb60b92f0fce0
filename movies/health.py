"""Liveness, readiness and metrics, for operators."""

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitTimeout
from typing import Any

import orjson
from flask import Blueprint, Flask, Response, current_app
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import NullPool, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from movies import metrics, provider
from movies.database import connection_options
from movies.errors import PROBLEMS
from movies.problems import problem_response

log = logging.getLogger(__name__)

bp = Blueprint("health", __name__)

CHECK_TIMEOUT = 2.0  # seconds that readiness waits for the database
TOO_MANY_CONNECTIONS = "53300"  # SQLSTATE of a PostgreSQL that is up and has no connection free


def init_app(app: Flask) -> None:
    """Register the endpoints and prepare the check of the database."""
    app.extensions["database_check"] = DatabaseCheck(app)
    app.register_blueprint(bp)


@bp.get("/health/live")
def live() -> Response:
    """Report that this process answers, and which release it runs."""
    config = current_app.config
    release = {"version": config["API_VERSION"], "revision": config["REVISION"]}
    return _json({"status": "live", **{name: value for name, value in release.items() if value}})


@bp.get("/health/ready")
def ready() -> Response:
    """Report whether this process can serve: 503 if the database is unavailable or not migrated."""
    client = provider.client()
    database = current_app.extensions["database_check"].state()
    states = {
        "database": database,
        "provider": {
            "name": provider.describe(current_app),
            "state": "down" if client.breaker.is_open else "up",
        },
        "cache": {
            "name": "redis" if current_app.config["REDIS_URL"] else "sqlite",
            "state": "down" if client.cache.is_failing else "up",
        },
    }
    if database == "up":
        return _json({"status": "ready", **states})
    detail = {
        "down": "The database is unavailable.",
        "not migrated": "The database has not been migrated. Run `flask --app wsgi db upgrade`.",
    }[database]
    return problem_response(PROBLEMS[DBAPIError], detail=detail, **states)


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), mimetype="application/json")


class DatabaseCheck:
    """Checks whether the database answers, and whether it has been migrated.

    It uses a connection outside the application's pools, so a busy pool does not look like an
    unavailable database. One check runs at a time, on a thread of its own, and callers wait for it
    no longer than CHECK_TIMEOUT, so a database that hangs cannot occupy the server's threads.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._check: Future[str] | None = None
        self._started = 0.0

    def state(self) -> str:
        """Return `up`, `down` or `not migrated`."""
        with self._lock:
            if self._check is None or self._check.done():
                pool = ThreadPoolExecutor(1, thread_name_prefix="readiness")
                self._started = time.monotonic()
                try:
                    self._check = pool.submit(self._run)
                except RuntimeError:  # no thread can be started
                    self._check = Future()
                    self._check.set_result(self._run())
                pool.shutdown(wait=False)  # the thread ends with its check
            check, left = self._check, self._started + CHECK_TIMEOUT - time.monotonic()
        try:
            return check.result(timeout=max(0.0, left))
        except WaitTimeout:
            log.error("the database did not answer a readiness check in %s s", CHECK_TIMEOUT)
            return "down"

    def _run(self) -> str:
        url = self._app.config["SQLALCHEMY_DATABASE_URI"]
        engine = create_engine(url, **connection_options(url), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                if not inspect(connection).has_table("alembic_version"):
                    return "not migrated"
                found = connection.scalar(text("SELECT version_num FROM alembic_version"))
                return "up" if found else "not migrated"
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            if getattr(cause, "sqlstate", None) == TOO_MANY_CONNECTIONS:
                return "up"
            log.error("the database failed a readiness check", extra={"reason": str(cause)})
            return "down"


@bp.get("/metrics", endpoint="metrics")
def metrics_of_all_workers() -> Response:
    """Return the metrics of all workers of this server, in Prometheus's text format."""
    return Response(generate_latest(metrics.registry()), content_type=CONTENT_TYPE_LATEST)
