"""Starts the servers that a measurement needs, and stops them afterwards.

PostgreSQL and Redis are started from their binaries where these are installed, each with its data
in a temporary directory. Otherwise DATABASE_URL (an empty database) and REDIS_URL are used.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import requests

from bench.data import engine_of, sign_in_users
from bench.load import Target
from stand_in.server import Faults, StandIn

ROOT = Path(__file__).resolve().parents[1]
SECRET = "only for measurements, and long enough"
USERS = 120  # more than 1,200 requests a minute each would be refused
API = "/api/v1"
POSTGRESQL_BINARIES = "/usr/lib/postgresql/*/bin"


class Missing(Exception):
    """A program or service that this measurement needs is missing."""


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None, user: str = ""
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is ended with SIGTERM, and killed if it does not end."""
    options: dict[str, Any] = {"user": user, "cwd": "/"} if user else {"cwd": ROOT}
    with log.open("ab") as output:
        running = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, **options
        )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_until(is_true: Any, what: str, log: Path, seconds: float = 60) -> None:
    """Wait until `is_true()`. Raises Missing, with the end of the log, after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_true():
            return
        time.sleep(0.02)
    raise Missing(f"{what} did not start:\n{log.read_text()[-2000:]}")


def listens(port: int) -> bool:
    """Whether a server accepts connections on this port of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def postgresql(directory: Path) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    found = sorted(Path("/").glob(f"{POSTGRESQL_BINARIES[1:]}/initdb"))
    initdb = Path(str(found[-1])) if found else Path(shutil.which("initdb") or "")
    if not initdb.is_file():
        if url := os.environ.get("DATABASE_URL"):
            yield url
            return
        raise Missing("PostgreSQL: install its server, or set DATABASE_URL to an empty database")
    data, log, port = directory / "postgresql", directory / "postgresql.log", free_port()
    user = "postgres" if os.geteuid() == 0 else ""
    data.mkdir()
    if user:
        shutil.chown(data, user)
        for folder in (directory, directory.parent):  # so that `user` can reach its data
            folder.chmod(0o755)
    options: dict[str, Any] = {"user": user} if user else {}
    create = [str(initdb), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    subprocess.run(create, check=True, capture_output=True, cwd="/", **options)
    command = [
        *(str(initdb.with_name("postgres")), "-D", str(data), "-p", str(port)),
        *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
        *("-c", "max_connections=200"),
    ]
    with process(command, log, user=user):
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        wait_until(lambda: listens(port), "PostgreSQL", log)
        yield url


@contextmanager
def redis(directory: Path) -> Iterator[str]:
    """The URL of an empty Redis."""
    server = shutil.which("redis-server")
    if server is None:
        if url := os.environ.get("REDIS_URL"):
            yield url
            return
        raise Missing("Redis: install redis-server, or set REDIS_URL")
    port, log = free_port(), directory / "redis.log"
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with process(command, log):
        wait_until(lambda: listens(port), "Redis", log)
        yield f"redis://127.0.0.1:{port}/0"


class Api:
    """The API under gunicorn in its production configuration, with users who are signed in."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = dict(settings)
        self._log = directory / "api.log"
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "MOVIES_CONFIG": "production",
            "JWT_SECRET_KEY": SECRET,
            "INSTANCE_DIR": str(directory / "instance"),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "TRUSTED_PROXIES": "1",
            **self.settings,
        }
        self.tokens: list[str] = []
        self.pid = 0
        self.seconds_to_ready = 0.0

    def run(self, *command: str) -> None:
        """Run a command of `flask`. Raises subprocess.CalledProcessError."""
        flask = [sys.executable, "-m", "flask", "--app", "wsgi", *command]
        subprocess.run(flask, check=True, capture_output=True, cwd=ROOT, env=self.environment)

    @contextmanager
    def serving(self, *, users: int = USERS) -> Iterator[Self]:
        """Serve until the block ends."""
        command = [sys.executable, "-m", "gunicorn", "wsgi:app"]
        begun = time.monotonic()
        with process(command, self._log, self.environment) as running:
            self.pid = running.pid
            wait_until(self._is_ready, "the API", self._log)
            self.seconds_to_ready = time.monotonic() - begun
            self.tokens = sign_in_users(self.url + API, users) if users else []
            yield self

    def target(self, *paths: str, method: str = "GET", bodies: Sequence[str] = ()) -> Target:
        """Requests for these paths below /api/v1, by all users in turn."""
        return Target(self.url, [API + path for path in paths], self.tokens, method, bodies)

    def get(self, path: str, **options: Any) -> requests.Response:
        """One request of the first user's. Raises requests.HTTPError."""
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Authorization": f"Bearer {self.tokens[0]}"}
            answer = session.get(self.url + API + path, headers=headers, **options)
        answer.raise_for_status()
        return answer

    def worker_megabytes(self) -> list[float]:
        """The resident memory of each worker, in MB (10^6 bytes). Linux only."""
        workers = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in workers]
        return [count * os.sysconf("SC_PAGE_SIZE") / 1e6 for count in pages]

    def _is_ready(self) -> bool:
        try:
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f"{self.url}/health/ready", timeout=1).ok
        except requests.RequestException:
            return False


class Stack:
    """Servers by kind, each started at its first use in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open = ExitStack()
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def enter(self, server: AbstractContextManager[Any]) -> Any:
        """Start a server that ends with the stack."""
        return self._open.enter_context(server)

    def directory(self) -> Path:
        """A new directory."""
        self._count += 1
        made = self._directory / str(self._count)
        made.mkdir()
        return made

    def provider(self, **faults: Any) -> StandIn:
        """The stand-in provider."""
        return self._open.enter_context(StandIn(faults=Faults(**faults)))

    def services(self) -> dict[str, str]:
        """The settings of an API on a new PostgreSQL and a new Redis."""
        directory = self.directory()
        return {
            "DATABASE_URL": self._open.enter_context(postgresql(directory)),
            "REDIS_URL": self._open.enter_context(redis(directory)),
        }

    def embedded(self) -> dict[str, str]:
        """The settings of an API on a new SQLite file."""
        return {"DATABASE_URL": f"sqlite:///{self.directory() / 'movies.sqlite3'}"}

    def both(self) -> Iterator[tuple[str, dict[str, str]]]:
        """The names and the settings of both sets of stores."""
        yield "PostgreSQL and Redis", self.services()
        yield "SQLite", self.embedded()

    def api(self, settings: Mapping[str, str], users: int = USERS) -> Api:
        """A migrated API that serves."""
        api = Api(self.directory(), settings)
        api.run("db", "upgrade")
        return self._open.enter_context(api.serving(users=users))

    def floor_settings(self, api: Api) -> dict[str, str]:
        """The settings of a floor on the database of `api`, which gets a table for it."""
        engine = engine_of(api.settings["DATABASE_URL"])
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS floor (id TEXT PRIMARY KEY)")
        engine.dispose()
        return {"FLOOR_DATABASE_URL": engine.url.render_as_string(hide_password=False)}

    def floor(self, api: Api) -> Target:
        """The floor on a server of its own, which accepts the tokens of `api`."""
        directory, port = self.directory(), free_port()
        environment = {
            **api.environment,
            **self.floor_settings(api),
            "PORT": str(port),
            "INSTANCE_DIR": str(directory / "instance"),
        }
        command = [sys.executable, "-m", "gunicorn", "bench.floor:app"]
        log = directory / "floor.log"
        self._open.enter_context(process(command, log, environment))
        wait_until(lambda: listens(port), "the floor", log)
        return Target(f"http://127.0.0.1:{port}", ["/floor"], api.tokens)
