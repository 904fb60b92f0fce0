"""Metrics of the server's workers, and the files in which they are kept."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, multiprocess
from prometheus_client.mmap_dict import MmapedDict


def registry() -> CollectorRegistry:
    """The metrics of all workers of this server, or of this process if it is the only one."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    workers = CollectorRegistry()
    workers.register(_Workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
    return workers


class _Workers:
    """Collects the metrics of all workers, those that have ended included."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Any]:
        with _locked(self._directory, fcntl.LOCK_SH):
            files = [str(path) for path in self._directory.glob("*.db")]
            yield from multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]


def retire(pid: int, directory: Path) -> None:
    """Add the counts of a worker that has ended to one file for all of them; delete its files."""
    with _locked(directory, fcntl.LOCK_EX):
        for kind in ("counter", "histogram"):
            ended = directory / f"{kind}_{pid}.db"
            if ended.exists():
                _add(ended, directory / f"{kind}_0.db")
                ended.unlink()
        multiprocess.mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]


def _add(ended: Path, total: Path) -> None:
    sums: Any = MmapedDict(str(total))  # type: ignore[no-untyped-call]
    for key, value, _, _ in MmapedDict.read_all_values_from_file(str(ended)):  # type: ignore[no-untyped-call]
        sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
    sums.close()


@contextmanager
def _locked(directory: Path, kind: int) -> Iterator[None]:
    """Keep a scrape from counting a worker twice, or not at all, while its files are merged."""
    with (directory / "merge.lock").open("a") as file:
        fcntl.flock(file, kind)
        yield
