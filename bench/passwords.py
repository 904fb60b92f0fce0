"""Hashing a password, and judging a long one."""

import os
from pathlib import Path

from bench.common import seconds
from movies.auth import passwords


def run(_directory: Path) -> None:
    """Print what one takes, and how many are hashed at once."""
    taken = seconds(lambda: passwords.hasher.hash("lovelace-and-babbage"), 20)
    print(f"  argon2id: {taken * 1000:.0f} ms, {os.cpu_count()} at once in a process")
    taken = seconds(lambda: passwords.weakness("a1" * 64, ["ada@example.com"]), 5)
    print(f"  zxcvbn, 128 characters: {taken * 1000:.0f} ms")
