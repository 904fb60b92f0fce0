"""Linters accept the OpenAPI document, and clients that are generated from it can vote.

The tools come from npm and from the Python package index, in fixed versions.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accounts import Accounts
from examples import code_in
from flask import Flask

from movies import openapi
from movies.extensions import api

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
ADDRESS = "http://127.0.0.1:8000"
OPENAPI_PYTHON_CLIENT = "openapi-python-client==0.29.1"
pytestmark = [
    pytest.mark.registry,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


def run(*command: str | Path, directory: Path) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "CI": "1", "NO_COLOR": "1", "NODE_NO_WARNINGS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages from npm and the files of this folder."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    directory = tmp_path_factory.mktemp("clients")
    for path in HERE.iterdir():
        if path.suffix in (".json", ".yaml", ".ts"):
            shutil.copy(path, directory)
    run("npm", "install", "--no-package-lock", "--ignore-scripts", "--silent", directory=directory)
    return directory


@pytest.fixture
def document(app: Flask, workspace: Path) -> Path:
    """The document as a file."""
    path = workspace / "openapi.json"
    path.write_bytes(openapi.document(api))
    return path


def test_redocly_finds_nothing(document: Path) -> None:
    report = run(
        "npx", "redocly", "lint", document.name, "--config=redocly.yaml", directory=document.parent
    )
    assert "warning" not in report.lower().replace("deprecation warning", "")


def test_spectral_finds_nothing(document: Path) -> None:
    command = ("npx", "spectral", "lint", document.name, "--ruleset=spectral.yaml")
    report = run(*command, "--fail-severity=hint", directory=document.parent)
    assert "No results with a severity of 'hint' or higher found!" in report


@pytest.fixture
def account(app: Flask) -> None:
    """The account of the README."""
    Accounts(app.test_client()).register("ada@example.com")


@pytest.mark.usefixtures("account")
def test_a_typescript_client_compiles_and_votes(url: str, document: Path) -> None:
    workspace = document.parent
    (workspace / "readme.ts").write_text(code_in(README, "ts").replace(ADDRESS, url))
    run("npx", "openapi-typescript", document.name, "-o", "schema.d.ts", directory=workspace)
    run("npx", "tsc", "--project", ".", directory=workspace)
    assert run("node", "tour.js", url, directory=workspace).split() == ["1", "upvotes"]
    assert "Inception 1\n" in run("node", "readme.js", directory=workspace)


@pytest.mark.usefixtures("account")
def test_a_python_client_is_generated_without_a_warning_and_votes(
    url: str, document: Path, tmp_path: Path
) -> None:
    uv = Path(sys.executable).with_name("uv")
    generate = (uv, "tool", "run", "--quiet", "--from", OPENAPI_PYTHON_CLIENT)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"post_hooks": []}))
    report = run(
        *generate,
        *("openapi-python-client", "generate", "--path", document, "--config", config),
        *("--fail-on-warning", "--output-path", "client"),
        directory=tmp_path,
    )
    assert not re.search("warning|error", report, re.IGNORECASE)
    python = (uv, "run", "--quiet", "--no-project", "--with", "./client", "python")
    assert run(*python, HERE / "tour.py", url, directory=tmp_path).strip() == "1 upvote"
    example = code_in(README, "python").replace(ADDRESS, url)
    assert "Inception 1\n" in run(*python, "-c", example, directory=tmp_path)
