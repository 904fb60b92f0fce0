"""The code blocks of Markdown pages, and how to run them."""

import re
import subprocess
from pathlib import Path

BLOCK = re.compile(
    r"(?P<why><!-- not executed: .+? -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TIMEOUT = 120  # seconds


def blocks(path: Path) -> list[tuple[str, str, str]]:
    """The code blocks of a page: language, code, and why a command is not executed."""
    found = BLOCK.finditer(path.read_text(encoding="utf-8"))
    return [(block["language"], block["code"], block["why"] or "") for block in found]


def executed(path: Path) -> list[str]:
    """The commands of a page that are executed by a test."""
    return [code for language, code, why in blocks(path) if language == "sh" and not why]


def code_in(path: Path, language: str) -> str:
    """All blocks of a page in one language, as one program."""
    return "\n".join(code for name, code, _ in blocks(path) if name == language)


def output_of(*command: str | Path) -> str:
    """What a command prints. It must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bash(script: str) -> str:
    """What a script prints. It must succeed."""
    return output_of("bash", "-euo", "pipefail", "-c", script)
