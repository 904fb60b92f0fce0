"""README, the guide and the docs: the commands work, and the links lead somewhere.

Blocks marked `sh` are executed, unless a comment above says why not. A block marked `json` after
one is the output of the command, except for values that differ from run to run.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(
    r"(?P<why><!-- not executed: .+? -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ADDRESS = "http://127.0.0.1:8000"
VOLATILE = {"created_at", "updated_at", "next"}


def blocks(path: Path) -> list[tuple[str, str, str]]:
    """The code blocks of a page: language, code, and why a command is not executed."""
    found = BLOCK.finditer(path.read_text(encoding="utf-8"))
    return [(block["language"], block["code"], block["why"] or "") for block in found]


def executed(path: Path) -> list[str]:
    return [code for language, code, why in blocks(path) if language == "sh" and not why]


def bash(script: str) -> str:
    """What a script prints. It must succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_journey_of_the_readme_prints_what_it_shows(url: str) -> None:
    script, shown = "", []
    for language, code, why in blocks(ROOT / "README.md"):
        if language == "sh" and not why:
            script += f"{code}\nprintf '\\0'\n"
        elif language == "json":
            shown.append((script.count("printf"), json.loads(code)))
    printed = bash(script.replace(ADDRESS, url)).split("\0")
    assert len(shown) == 4
    for number, expected in shown:
        assert stable(json.loads(printed[number - 1])) == stable(expected)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_curl_example_of_the_guide_works(url: str) -> None:
    (script,) = executed(ROOT / "movies/manual.md")
    printed = bash(script.replace("https://movies.example.com", url))
    assert '"my_rating":{"id":1,"rating_type":"UPVOTE"}' in printed


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_python_example_of_the_guide_works(url: str) -> None:
    code = "\n".join(
        code for language, code, _ in blocks(ROOT / "movies/manual.md") if language == "python"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.replace("https://movies.example.com", url)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "'rating_type': 'UPVOTE'" in done.stdout


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_executed_or_say_why_not(path: Path) -> None:
    assert path.name == "README.md" or executed(path) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def test_the_map_names_every_module() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    modules = {path.name for path in (ROOT / "movies").rglob("*.py")} - {"__init__.py"}
    assert modules - set(re.findall(r"(\w+\.py)`", text)) == set()


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def stable(value: Any) -> Any:
    """The value without members that differ from run to run."""
    if isinstance(value, dict):
        return {name: stable(member) for name, member in value.items() if name not in VOLATILE}
    return [stable(member) for member in value] if isinstance(value, list) else value
