"""`make` on machines that lack something: the message, and the next try."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clean_environment import ROOT
from services import free_port

pytestmark = pytest.mark.slow

Make = Callable[..., "subprocess.CompletedProcess[str]"]
COMMANDS = (
    "run test test-fast dev november7 lint format migrate bench lock upgrade-deps openapi "
    "lint-deploy vendor screenshots clean"
)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Runs a target of the Makefile in a directory with requirements that are empty."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for lock in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / lock).touch()

    def make(*args: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return subprocess.run(
            ["make", *args],
            cwd=tmp_path,
            env={**kept, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return make


def fake_python(directory: Path, name: str, script: str) -> str:
    """A command that runs a shell script, followed by the real Python with its arguments."""
    path = directory / name
    path.write_text(f'#!/bin/sh\n{script}\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


def errors(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """What `make` wrote to standard error, apart from its own last line."""
    return [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]


def test_help_lists_every_command(make: Make) -> None:
    listed = re.findall(r"^  make (\S+) +\w", make().stdout, re.MULTILINE)
    assert set(listed) == {"help", *COMMANDS.split()}


def test_a_python_that_is_not_installed_is_named(make: Make) -> None:
    done = make("run", "PYTHON=python3.99")
    assert errors(done) == [
        "Error: python3.99 is not installed. Install Python 3.11 or newer, "
        "or name another Python: make run PYTHON=python3.12"
    ]


def test_a_python_that_is_too_old_is_named_with_its_version(make: Make, tmp_path: Path) -> None:
    too_old = 'case "$2" in *"3, 11"*) exit 1;; *"%d.%d"*) echo Python 3.9; exit;; esac'
    python = fake_python(tmp_path, "python3.9", too_old)
    assert errors(make("test", f"PYTHON={python}")) == [
        f"Error: {python} is Python 3.9; 3.11 or newer is needed, "
        "or name another Python: make test PYTHON=python3.12"
    ]


def test_a_missing_venv_module_is_reported_with_its_package(make: Make, tmp_path: Path) -> None:
    python = fake_python(tmp_path, "python3", 'case "$2" in *ensurepip*) exit 1;; esac')
    assert errors(make("run", f"PYTHON={python}")) == [
        f"Error: {python} has no venv module. On Debian and Ubuntu: apt install python3-venv, "
        "or name another Python: make run PYTHON=python3.12"
    ]
    assert not (tmp_path / ".venv").exists()


def test_an_interrupted_installation_is_repeated(make: Make, tmp_path: Path) -> None:
    python = f"PYTHON={sys.executable}"
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "requirements.txt").write_text(f"movies-api==1.0 --hash=sha256:{'0' * 64}\n")
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "1"}
    failed = make(".venv/run", python, PIP_CONFIG_FILE=os.devnull, PIP_FIND_LINKS="", **nowhere)
    assert errors(failed) == [
        "Error: the package index cannot be reached. Check the network and proxy, "
        "then run make again (details: .venv/pip.log)"
    ]
    assert failed.returncode == 2
    (tmp_path / "requirements.txt").write_text("")
    assert make(".venv/run", python).returncode == 0
    assert make("--question", ".venv/run", python).returncode == 0
    (tmp_path / ".venv" / "bin" / "python").unlink()  # as after an upgrade of the system's Python
    assert make("--question", ".venv/run", python).returncode == 1


def checkout(directory: Path, script: str = "") -> str:
    """Makes a directory look like this checkout; the Python of its environment.

    `script`: what a shell does before it starts this Python.
    """
    for name in ("config.py", "wsgi.py", "gunicorn.conf.py", "tools", "movies", "migrations"):
        (directory / name).symlink_to(ROOT / name)
    (directory / ".venv" / "bin").mkdir(parents=True)
    for stamp in ("made", "run", "dev"):
        (directory / ".venv" / stamp).touch()
    has_pip = 'case "$2" in "import pip") exit;; esac'
    return fake_python(directory / ".venv" / "bin", "python", f"{has_pip}\n{script}")


@pytest.mark.parametrize("target", ["run", "dev"])
def test_a_warning_about_the_settings_is_printed_once(
    make: Make, tmp_path: Path, target: str
) -> None:
    """The servers load their configuration and the application, but serve nothing."""
    ends = """case "$*" in
    *"gunicorn wsgi:app") set -- -m gunicorn --check-config wsgi:app;;
    *"flask --app wsgi run"*) set -- -m flask --app wsgi routes;;
    esac"""
    done = make(
        *(target, f"PYTHON={checkout(tmp_path, ends)}"),
        INSTANCE_DIR=str(tmp_path / "instance"),
        PORT=str(free_port()),
        MOVIES_ENV_FILE="",
        NOVEMBER7_TLL="60",
    )
    assert done.returncode == 0, done.stderr
    warning = "Warning: NOVEMBER7_TLL is not a setting. Did you mean NOVEMBER7_TTL?"
    assert done.stderr.count(warning) == 1


@pytest.mark.parametrize("target", ["run", "dev"])
def test_a_taken_port_is_reported_before_the_database_is_migrated(
    make: Make, tmp_path: Path, target: str
) -> None:
    python = checkout(tmp_path)
    instance = tmp_path / "instance"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = make(
            *(target, f"PYTHON={python}"),
            **{"PORT": str(port), "HOST": "127.0.0.1", "INSTANCE_DIR": str(instance)},
            MOVIES_ENV_FILE="",
        )
    (error,) = errors(done)
    assert error.startswith(f"Error: cannot listen on 127.0.0.1, port {port}: ")
    assert "PORT=" in error
    assert not instance.exists()
