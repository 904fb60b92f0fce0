"""How the application is served; gunicorn reads this file by itself."""

import os
import shutil
from typing import Any

from config import Config

bind = f"0.0.0.0:{Config.PORT}"
workers = Config.WEB_CONCURRENCY

# Threads are cheap while they wait, and made only when needed. There are more of them than callers
# who may wait for November 7 at once (MAX_WAITERS in movies/november7/flights.py), so those can't
# keep sign-in, ratings and warm searches from being answered.
worker_class = "movies.worker.Worker"
threads = 256
worker_connections = 2000
sendfile = False  # the worker sends, so that a slow reader holds no thread

timeout = 60
graceful_timeout = 30
keepalive = 75  # seconds; longer than load balancers keep idle connections, usually 60
control_socket_disable = True

# Forwarded headers are the application's business (TRUSTED_PROXIES), not gunicorn's.
secure_scheme_headers: dict[str, str] = {}
forwarded_allow_ips = ""

# Each worker counts in a file of its own, and /metrics adds them up.
metrics_dir = Config.INSTANCE_DIR / "metrics" / str(Config.PORT)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_dir)
metrics_dir.mkdir(parents=True, exist_ok=True)


def on_starting(_server: Any) -> None:
    """Begin counting at zero."""
    shutil.rmtree(metrics_dir, ignore_errors=True)
    metrics_dir.mkdir(parents=True)


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the gauges of a worker that is gone."""
    from prometheus_client import multiprocess  # noqa: PLC0415  once its directory is set

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
