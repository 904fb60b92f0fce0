"""`make bench`: all measurements, or those named in ARGS: search, top, refusals, passwords.

With DATABASE_URL or REDIS_URL set they are used; DATABASE_URL must be an empty database.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ["MOVIES_CONFIG"] = "testing"

from bench import passwords, refusals, search, top

BENCHES = {"search": search, "top": top, "refusals": refusals, "passwords": passwords}


def main() -> None:
    """Run the measurements that are named, each in a directory of its own."""
    parser = argparse.ArgumentParser("make bench", description="Measure what the docs quote.")
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(BENCHES)}; all by default")
    names: list[str] = parser.parse_args().name
    if unknown := [name for name in names if name not in BENCHES]:
        parser.error(f"no measurement is called {unknown[0]}; there are {', '.join(BENCHES)}")
    for name in names or list(BENCHES):
        with tempfile.TemporaryDirectory() as directory:
            print(f"\n{name}: {BENCHES[name].__doc__}")
            BENCHES[name].run(Path(directory))


main()
