"""The PostgreSQL and the Redis that this test process uses, one of each for every parallel worker.

A worker of pytest-xdist makes databases of its own in PostgreSQL, and starts a Redis of its own if
`redis-server` is installed. Otherwise the workers share the Redis at `TEST_REDIS_URL`: the first
uses the database number in that URL, the next one the number below, and so on.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

import psycopg
import pytest
import redis
from sqlalchemy import make_url

POSTGRESQL = os.environ.get("TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/test")
REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # "gw0", "gw1" …; empty in a serial run
START_TIMEOUT = 30  # seconds


@contextmanager
def postgresql_database(purpose: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database that only this process uses."""
    name = f"movies_{purpose}_{os.getpid()}"
    try:
        server = psycopg.connect(POSTGRESQL, autocommit=True, connect_timeout=30)
    except psycopg.OperationalError:
        pytest.skip("PostgreSQL is not reachable")
    with server:
        server.execute(f'CREATE DATABASE "{name}"')
        # Nothing here has to survive a crash of the server.
        server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        try:
            yield make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a Redis that only this process uses."""
    chosen = "TEST_REDIS_URL" in os.environ and not WORKER
    if not chosen and (binary := shutil.which("redis-server")):
        with own_redis(binary) as url:
            yield url
        return
    url = _numbered(REDIS, int(WORKER.removeprefix("gw") or 0))
    try:
        redis.Redis.from_url(url, socket_connect_timeout=30).ping()
    except redis.RedisError:
        pytest.skip("Redis is not reachable, and redis-server is not installed")
    yield url


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _numbered(url: str, worker: int) -> str:
    base = make_url(url)
    number = int(base.database or 0) - worker
    if number < 0:
        raise pytest.UsageError(f"TEST_REDIS_URL needs a database number of {worker} or more")
    return base.set(database=str(number)).render_as_string(hide_password=False)


@contextmanager
def own_redis(binary: str) -> Iterator[str]:
    """The URL of a Redis that runs while the block does."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", directory],
            stdout=subprocess.DEVNULL,
        )
        try:
            url = f"redis://127.0.0.1:{port}/0"
            _wait_for_redis(url, process)
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait_for_redis(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = monotonic() + START_TIMEOUT
    with redis.Redis.from_url(url) as client:
        while process.poll() is None and monotonic() < end:
            try:
                client.ping()
            except redis.ConnectionError:
                sleep(0.01)
            else:
                return
    raise RuntimeError(f"redis-server did not start (exit code {process.poll()})")
