"""Runs `gunicorn` and `flask` in processes that have already imported the libraries.

Importing them takes most of the time of a start. The fork server of `multiprocessing` imports them
once, and forks itself for each program. A program imports the project's own code as usual, and
reads its own settings.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# prometheus_client is not among them: it reads the environment when it is imported.
LIBRARIES = [
    "aiohappyeyeballs",
    "alembic.command",
    "argon2",
    "cachetools",
    "email_validator",
    "environs",
    "flask.cli",
    "flask_cors",
    "flask_jwt_extended",
    "flask_migrate",
    "flask_smorest",
    "flask_sqlalchemy",
    "orjson",
    "psycopg",
    "redis",
    "requests_cache",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "zxcvbn",
]
Process = multiprocessing.context.ForkServerProcess

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LIBRARIES)


def launch(
    *command: str, environment: Mapping[str, str], output: Path, errors: Path, first: str = ""
) -> Process:
    """Start `python -m command` in the checkout, after the Python code `first`.

    Standard output and standard error are appended to two files, which may be the same.
    """
    process = _context.Process(target=_run, args=(command, environment, output, errors, first))
    process.start()
    return process


def complete(
    *command: str, environment: Mapping[str, str], timeout: float = 120
) -> "subprocess.CompletedProcess[str]":
    """The result of `python -m command`. Raises TimeoutError."""
    with tempfile.TemporaryDirectory() as directory:
        output, errors = Path(directory, "output"), Path(directory, "errors")
        process = launch(*command, environment=environment, output=output, errors=errors)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{command} takes longer than {timeout} seconds")
        return subprocess.CompletedProcess(
            command, process.exitcode, output.read_text(), errors.read_text()
        )


def _run(
    command: tuple[str, ...],
    environment: Mapping[str, str],
    output: Path,
    errors: Path,
    first: str,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for path, descriptor in ((output, 1), (errors, 2)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), descriptor)
    tests = str(ROOT / "tests")
    sys.path[:] = [str(ROOT), *(path for path in sys.path if not path.startswith(tests))]
    sys.argv = list(command)
    exec(first, {})
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
