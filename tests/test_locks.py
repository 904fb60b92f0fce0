"""The pinned requirements: complete, and installable by the pip of every supported system."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from clean_environment import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ["requirements.txt", "requirements-otel.txt", "requirements-dev.txt"]
OLDEST_PIP = "23.0.1"  # Debian 12's


def pinned(lock: str) -> dict[str, Requirement]:
    """The requirements of a lock by name."""
    lines = re.findall(r"^([A-Za-z0-9].*?)(?: \\)?$", (ROOT / lock).read_text(), re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_keeps_every_extra_that_a_package_asks_for(lock: str) -> None:
    """Without them, pip before 23.3 looks for a requirement that has no pin, and fails."""
    locked = pinned(lock)
    missing = {}
    for requirement in locked.values():
        try:
            dependencies = requires(requirement.name) or []
        except PackageNotFoundError:  # of another platform or Python
            continue
        for dependency in map(Requirement, dependencies):
            extras = [{"extra": extra} for extra in requirement.extras or {""}]
            if dependency.marker and not any(map(dependency.marker.evaluate, extras)):
                continue
            lacking = dependency.extras - locked[canonicalize_name(dependency.name)].extras
            if lacking:
                missing[f"{requirement.name} asks for {dependency}"] = lacking
    assert missing == {}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_package_index(lock: str) -> None:
    assert re.findall(r"^--(?!hash)|://", (ROOT / lock).read_text(), re.MULTILINE) == []


@pytest.mark.registry
def test_the_locks_install_with_the_oldest_pip(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"pip=={OLDEST_PIP}"], check=True)
    for lock in LOCKS:
        done = subprocess.run(
            [*pip, "--dry-run", "--require-hashes", "-r", str(ROOT / lock)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
