"""`make bench`: measure every figure, or those named in ARGS."""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import gateways, processor
from bench.figures import FIGURES, Row
from bench.load import TooNoisy
from bench.plot import plot
from bench.stack import Missing, Stack

FIGURES["gateways"] = gateways.run
FIGURES["processor"] = processor.processor
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Measure and print. Returns 1 if a figure could not be measured, and otherwise 0."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    names = parser.parse_args().figures or list(FIGURES)
    if unknown := [name for name in names if name not in FIGURES]:
        parser.error(f"unknown figure: {', '.join(unknown)}; choose from {', '.join(FIGURES)}")
    status = 0
    for name in names:
        print(f"\n{name}: {FIGURES[name].__doc__}", flush=True)
        try:
            with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
                rows = FIGURES[name](stack)
        except (Missing, TooNoisy) as error:
            print(f"  not measured: {error}")
            status = 1
            continue
        for row in rows:
            print(f"  {row.name:<44} {row.value:>9,.3f} {row.unit:<22} {row.note}")
        save(name, rows)
    return status


def save(name: str, rows: list[Row]) -> None:
    """Keep the rows of one figure, and what they were measured on, in results.json; plot them."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = {"measured": conditions(), "rows": [asdict(row) for row in rows]}
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    RESULTS.with_suffix(".svg").write_text(plot(results))


def conditions() -> dict[str, str]:
    """When, on what and of which commit a figure was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    packages = ("flask", "gunicorn", "sqlalchemy", "psycopg", "marshmallow")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} processors, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "commit": commit,
        **{name: importlib.metadata.version(name) for name in packages},
    }


sys.exit(main())
