"""The documentation pages in a real browser."""

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.serving import make_server

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
    "--dump-dom",
]
COMPLAINT = re.compile(r"violates|refused to|uncaught|failed to load", re.IGNORECASE)


@pytest.fixture
def address(make_app: Callable[..., Flask]) -> Iterator[str]:
    """Where the application can be reached by HTTP."""
    server = make_server("127.0.0.1", 0, make_app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("swagger-ui", ['class="opblock ', "Search movies", "/api/v1/movies/top/", "Authorize"]),
        ("redoc", ["and vote on them", "RFC 9457"]),
    ],
)
def test_page_renders_and_complains_of_nothing(
    page: str, shown: list[str], address: str, tmp_path: Path
) -> None:
    """A page shows every operation, and loads nothing that its own policy forbids."""
    if BROWSER is None:
        pytest.skip("there is no chromium")
    for attempt in range(3):  # a busy machine may not render within the browser's virtual time
        run = subprocess.run(
            [
                BROWSER,
                *QUIET,
                f"--user-data-dir={tmp_path / str(attempt)}",
                f"{address}/api/schema/{page}/",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        missing = [text for text in shown if text not in run.stdout]
        if not missing:
            break
    assert not missing, run.stderr
    console = [line for line in run.stderr.splitlines() if ":CONSOLE" in line]
    assert [line for line in console if COMPLAINT.search(line)] == []
