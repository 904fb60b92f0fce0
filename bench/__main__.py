"""`make bench`: all measurements, or those named in ARGS: search, top, refusals, passwords.

With DATABASE_URL or REDIS_URL set they are used; DATABASE_URL must be an empty database.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ["MOVIES_CONFIG"] = "testing"

from bench import passwords, refusals, search, top

BENCHES = {"search": search, "top": top, "refusals": refusals, "passwords": passwords}


def main(names: list[str]) -> None:
    """Run the measurements of these names, each in a directory of its own."""
    for name in names or list(BENCHES):
        with tempfile.TemporaryDirectory() as directory:
            print(f"\n{name}: {BENCHES[name].__doc__}")
            BENCHES[name].run(Path(directory))


main(sys.argv[1:])
