"""The application under gunicorn, by default with two workers, for tests over real sockets."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

import requests
from helpers import eventually
from launcher import complete, launch

WORKERS = 2
ESTABLISHED = "01"  # as /proc/net/tcp has it


class Served:
    """The running application; `ask` is `requests.request` on its API, on a connection of its own.

    `pids` are its workers', `pid` their master's; `environment` is its settings; `log` is what it
    has written so far; `is_shared`: whether its workers share a Redis.
    """

    def __init__(self, directory: Path, first: str = "", **settings: str) -> None:
        self._first = first
        self._is_migrated = False
        self.is_shared = bool(settings.get("REDIS_URL"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = directory / "log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME")},
            "MOVIES_CONFIG": "development",
            "MOVIES_ENV_FILE": "",
            "FLASK_SKIP_DOTENV": "1",
            "INSTANCE_DIR": str(directory),
            "JWT_SECRET_KEY": "a secret of the tests that is long enough",
            "RATELIMIT_ENABLED": "false",
            "WEB_CONCURRENCY": str(WORKERS),
            "PORT": str(port),
            "REDIS_URL": "",
            "DATABASE_URL": "",
            **settings,
        }
        self.headers: dict[str, str] = {}
        self._process: Any = None

    def start(self) -> Self:
        """Migrate the database, serve, and sign an account in."""
        if not self._is_migrated:
            self._migrate()
        self._log.unlink(missing_ok=True)
        self._process = launch(
            "gunicorn",
            "wsgi:app",
            environment=self.environment,
            output=self._log,
            errors=self._log,
            first=self._first,
        )
        workers = int(self.environment["WEB_CONCURRENCY"])
        assert eventually(lambda: len(self.pids) == workers and self._is_up(), within=30)
        self.headers = self.sign_in("ada@example.com")
        return self

    def sign_in(self, email: str) -> dict[str, str]:
        """Register an account; returns the header that identifies it."""
        account = {"email": email, "password": "lovelace-and-babbage"}
        self.ask("POST", "/api/v1/users/register/", json=account)
        access = self.ask("POST", "/api/v1/auth/token/", json=account).json()["access"]
        return {"Authorization": f"Bearer {access}"}

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """The result of a `flask` command with the settings of the server."""
        return complete("flask", "--app", "wsgi", *command, environment=self.environment)

    def stop(self) -> None:
        """Stop the server; kill it if it does not end in time."""
        if self._process is None:  # the migration failed
            return
        self._process.terminate()
        self._process.join(15)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _migrate(self) -> None:
        if self.environment["DATABASE_URL"]:
            migrated = self.run("db", "upgrade")
            assert migrated.returncode == 0, migrated.stderr
        else:
            path = Path(self.environment["INSTANCE_DIR"], "movies.sqlite3")
            path.write_bytes(_migrated_sqlite())
        self._is_migrated = True

    @property
    def pid(self) -> int:
        """The process id of gunicorn's master."""
        pid: int = self._process.pid
        return pid

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False  # no proxy on the way to this machine
            wanted: dict[str, Any] = {"headers": self.headers, "timeout": 30, **options}
            return session.request(method, self.url + path, **wanted)

    def search(self, query: str, **options: Any) -> requests.Response:
        return self.ask("GET", "/api/v1/movies/", params={"query": query}, **options)

    def metric(self, sample: str) -> float:
        """A sample of `/metrics`; 0 if there is none."""
        text = self.ask("GET", "/metrics").text
        found = re.search(rf"^{re.escape(sample)} (.+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def pids(self) -> list[int]:
        """The workers that are alive."""
        booted = re.findall(r"Booting worker with pid: (\d+)", self.log)
        return [int(pid) for pid in booted if _is_alive(int(pid))]

    def kill(self, pid: int) -> None:
        """Send SIGKILL to a worker."""
        os.kill(pid, signal.SIGKILL)

    def connected_to(self, port: int) -> list[int]:
        """The workers that have a connection to this port of this machine. Linux only."""
        sockets = _established(remote=port)
        return [pid for pid in self.pids if sockets & _open_files(pid)]

    def megabytes(self) -> float:
        """The resident memory of all workers together. Linux only."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def connections(self) -> list[int]:
        """The number of clients that are connected to each worker. Linux only."""
        clients = _established(local=int(self.url.rpartition(":")[2]))
        return [len(clients & _open_files(pid)) for pid in self.pids]

    def _is_up(self) -> bool:
        try:
            return self.ask("GET", "/health/ready", timeout=2).ok
        except requests.RequestException:
            return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _established(local: int = 0, remote: int = 0) -> set[str]:
    """The IPv4 connections from or to a port of this machine, as they are named in /proc."""
    end = f":{local or remote:04X}"
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        f"socket:[{row[9]}]"
        for row in table
        if row[1 if local else 2].endswith(end) and row[3] == ESTABLISHED
    }


def _open_files(pid: int) -> set[str]:
    """What /proc says of the files of a process; nothing of one that has ended."""
    found: set[str] = set()
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.add(str(path.readlink()))
    return found


@cache
def _migrated_sqlite() -> bytes:
    """A SQLite database of the newest revision."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "movies.sqlite3")
        migrated = Served(Path(directory)).run("db", "upgrade")
        assert migrated.returncode == 0, migrated.stderr
        with closing(sqlite3.connect(path)) as database:
            return database.serialize()


@contextmanager
def served(directory: Path, first: str = "", **settings: str) -> Iterator[Served]:
    """The application, running in `directory`, after the Python code `first`."""
    running = Served(directory, first, **settings)
    try:
        yield running.start()
    finally:
        running.stop()
