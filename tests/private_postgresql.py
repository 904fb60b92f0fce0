"""A private PostgreSQL server, for tests that stop it, fill it or change its settings."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from helpers import eventually
from services import free_port

MAX_CONNECTIONS = 60  # two workers of a server open 40
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": MAX_CONNECTIONS,
    "superuser_reserved_connections": 3,
    "fsync": "off",
    "max_wal_senders": 0,
}


class PrivatePostgresql:
    """A running server. `url` is that of its maintenance database."""

    def __init__(
        self, binaries: Path, directory: Path, user: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        self.port = free_port()
        self.url = f"postgresql://movies@127.0.0.1:{self.port}/postgres"
        self.binaries, self._directory, self._user = binaries, directory, user
        self._data, self._settings = directory / "data", settings

    def create(self) -> None:
        """Make an empty cluster."""
        self._run("initdb", "-D", self._data, "-U", "movies", "-A", "trust", "--no-sync")

    @contextmanager
    def standby(self) -> Iterator["PrivatePostgresql"]:
        """Another server, which replicates this one; both need `max_wal_senders`."""
        with tempfile.TemporaryDirectory() as directory:
            if self._user:
                shutil.chown(directory, self._user["user"])
            server = PrivatePostgresql(self.binaries, Path(directory), self._user, self._settings)
            server._run("pg_basebackup", "-d", self.url, "-D", server._data, "-R", "-c", "fast")
            with server.running():
                yield server

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the server while the block does."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [self.binaries / program, *arguments],
            check=True,
            capture_output=True,
            cwd=self._directory,
            **self._user,
        )

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = [f"--{name}={value}" for name, value in {**SETTINGS, **self._settings}.items()]
        self.process = subprocess.Popen(
            [self.binaries / "postgres", "-D", self._data, "-p", str(self.port), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._data,
            **self._user,
        )
        assert eventually(self._is_up, within=30)

    def stop(self) -> None:
        """End the server and every connection to it, at once, if it runs."""
        if self.process.poll() is not None:
            return
        self.resume()
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def pause(self) -> None:
        """Suspend all its processes, so that connections stay open and get no response."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self._signal(signal.SIGCONT)

    def execute(self, statement: Any, *values: Any) -> list[Any]:
        """The rows that a statement returns, if any, run in the maintenance database."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            result = connection.execute(statement, values or None)
            return result.fetchall() if result.description else []

    def terminate_backends(self) -> None:
        """End every other connection and wait until they are gone."""
        others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> "
        self.execute(f"SELECT pg_terminate_backend(pid, 5000) {others} pg_backend_pid()")

    def _is_up(self) -> bool:
        try:
            return bool(self.execute("SELECT 1"))
        except psycopg.OperationalError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        for pid in [self.process.pid, *_children(self.process.pid)]:
            os.kill(pid, number)


def _children(parent: int) -> list[int]:
    """The child processes of a process; Linux only."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in path.read_text().split()]


@contextmanager
def private_postgresql(**settings: Any) -> Iterator[PrivatePostgresql]:
    """A server that runs as an unprivileged user, with `settings` of its own.

    The test is skipped if none is installed.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    found = shutil.which("postgres") or (installed[-1] if installed else None)
    if found is None:
        pytest.skip("PostgreSQL's server is not installed")
    is_root = os.getuid() == 0  # which PostgreSQL refuses to run as
    with tempfile.TemporaryDirectory() as directory:
        if is_root:
            shutil.chown(directory, "nobody")
        user = {"user": "nobody"} if is_root else {}
        server = PrivatePostgresql(Path(found).resolve().parent, Path(directory), user, settings)
        server.create()
        with server.running():
            yield server
