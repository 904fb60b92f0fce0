"""README and the docs: the commands work, and the links lead somewhere.

Blocks marked `sh` are executed, unless a comment above says why not. A block marked `json` after
one is the output of the command, except for values that differ from run to run.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from examples import bash, blocks, executed

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ADDRESS = "http://127.0.0.1:8000"
VOLATILE = {"created_at", "updated_at", "next"}


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_tour_of_the_readme_prints_what_it_shows(url: str) -> None:
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
