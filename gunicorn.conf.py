"""The configuration of gunicorn, which reads this file automatically."""

import fcntl
import gc
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from config import Config

# Each worker counts in files of its own, and /metrics adds them up. Each run of a server has a
# directory of its own and holds a lock on it, so that no server deletes that of another.
METRICS = Config.INSTANCE_DIR / "metrics"
metrics_directory = METRICS / f"{Config.PORT}-{os.getpid()}"


def claim_metrics_directory() -> None:
    """Begin counting at zero, in an empty directory."""
    shutil.rmtree(metrics_directory, ignore_errors=True)  # of an earlier process with our id
    metrics_directory.mkdir(mode=0o700, parents=True)
    if lock(metrics_directory) is None:
        sys.exit(f"Error: INSTANCE_DIR {Config.INSTANCE_DIR} is used by another machine's server.")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_directory)


def lock(directory: Path) -> int | None:
    """The file descriptor that holds the lock on a directory; None if another process has it."""
    descriptor = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


if "movies" not in sys.modules:  # not when the configuration is read again
    claim_metrics_directory()

# Imported here, the code is shared by all workers. Each creates an application of its own, so no
# connection, lock or thread is inherited.
from movies import metrics, port  # noqa: E402
from movies.auth import passwords  # noqa: E402
from movies.client_socket import SLOW_SENDERS  # noqa: E402
from movies.database.connections import MAX_CALLERS  # noqa: E402
from movies.extensions import db  # noqa: E402
from movies.november7.singleflight import MAX_WAITERS  # noqa: E402
from movies.worker import forget_worker  # noqa: E402

bind = f"[{Config.HOST}]:{Config.PORT}" if ":" in Config.HOST else f"{Config.HOST}:{Config.PORT}"
workers = Config.WEB_CONCURRENCY

_, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
most_files = 10_240 if limit == resource.RLIM_INFINITY else limit  # macOS accepts no more
resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, limit))

# Threads are cheap while they wait, and created only when needed. However many callers wait for
# November 7, for the database, for slow clients and for password checks at once, some threads are
# free. Not counted are callers that wait until fetched movies are recorded, a second at most.
worker_class = "movies.worker.Worker"
threads = MAX_WAITERS + MAX_CALLERS + SLOW_SENDERS + passwords.MAX_CALLERS + 32
worker_connections = max(64, min(2000, most_files - 300))  # the rest is for files and databases
logger_class = "movies.worker.ServerLogger"
sendfile = False  # the worker sends, so that a slow reader holds no thread

timeout = 60
graceful_timeout = 30
keepalive = Config.KEEPALIVE
control_socket_disable = True

# The application handles forwarded headers (TRUSTED_PROXIES), not gunicorn.
secure_scheme_headers: dict[str, str] = {}
forwarded_allow_ips = ""


def on_starting(server: Any) -> None:
    """Check that the port is free, then delete the metrics of servers that have ended."""
    is_inherited = "GUNICORN_FD" in os.environ or "LISTEN_FDS" in os.environ
    for address in [] if is_inherited else server.address:
        if isinstance(address, tuple) and (error := port.bind_error(*address)):
            shutil.rmtree(metrics_directory, ignore_errors=True)
            sys.exit(error)
    for directory in METRICS.iterdir():
        if (directory / "lock").exists() and directory != metrics_directory:
            ended = lock(directory)
            if ended is not None:
                shutil.rmtree(directory, ignore_errors=True)
                os.close(ended)
    try:
        metrics.reserve(metrics.TOTAL, metrics_directory)
        metrics.reserve_spares(2 * server.cfg.workers, metrics_directory)  # SIGHUP needs twice
    except OSError as error:
        sys.exit(f"Error: INSTANCE_DIR {Config.INSTANCE_DIR} has no space left: {error.strerror}.")


def when_ready(server: Any) -> None:
    """Log the address of the documentation, and have workers share the memory of the code."""
    host = "127.0.0.1" if Config.HOST in ("0.0.0.0", "::") else Config.HOST  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    address = Config.PUBLIC_URL or f"http://{host}:{Config.PORT}"
    server.log.info("Documentation: %s/api/schema/swagger-ui/", address)
    gc.collect()
    gc.freeze()  # the garbage collector would write to shared pages


def post_fork(server: Any, worker: Any) -> None:
    """Have the worker count in files that exist, even if the disk becomes full.

    If there is no space, it waits for the files of a worker that stops. If there are none either,
    it ends, and gunicorn starts another one.
    """
    for _ in range(20):
        try:
            metrics.reserve(worker.pid, metrics_directory)
        except OSError as error:
            server.log.error("no disk space for the metrics of a worker: %s", error)
            time.sleep(0.5)
        else:
            return
    sys.exit(1)


def worker_exit(_server: Any, worker: Any) -> None:
    """End the worker's fetches, and close its databases.

    Otherwise it would wait for the retries of a fetch that nobody waits for, and SQLite would leave
    write-ahead logs behind.
    """
    if worker.booted:
        worker.wsgi.extensions["november7"].close()
        with worker.wsgi.app_context():
            db.dispose()


def child_exit(_server: Any, worker: Any) -> None:
    """Keep the counts of a worker that has ended, and delete its files."""
    forget_worker(worker.age)
    metrics.retire(worker.pid, metrics_directory)


def on_exit(_server: Any) -> None:
    """Delete the metrics."""
    shutil.rmtree(metrics_directory, ignore_errors=True)
