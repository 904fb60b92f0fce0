"""Metrics of all workers of the server, and the files that store them."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Gauge, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.mmap_dict import MmapedDict
from sqlalchemy import QueuePool, event

CONNECTIONS = Gauge(
    "database_connections_in_use",
    "Database connections in use, in all workers",
    multiprocess_mode="livesum",
)
TOTAL = 0  # used as the process id for the counts of all workers that have ended
# The size of each file of a process in bytes, by prometheus_client's name for the file. All series
# of this application need less than half of that.
SIZES = {"counter": 2**20, "histogram": 2**20, "gauge_livesum": 2**16, "gauge_livemax": 2**16}
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")  # bytes


@event.listens_for(QueuePool, "checkout")
def _taken(_connection: object, record: Any, _proxy: object) -> None:
    record.record_info["is_counted"] = True  # unlike `info`, it outlives the connection
    CONNECTIONS.inc()


@event.listens_for(QueuePool, "checkin")
def _returned(_connection: object, record: Any) -> None:
    if record.record_info.pop("is_counted", False):  # not if it could not be opened again
        CONNECTIONS.dec()


def registry() -> CollectorRegistry:
    """The metrics of all workers of this server, or of this process if it is the only one."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    workers = CollectorRegistry()
    workers.register(Workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
    return workers


class Workers:
    """Collects the metrics of all workers, those that have ended included, from their directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Any]:
        with _locked(self._directory, fcntl.LOCK_SH):
            files = [str(path) for path in self._directory.glob("*.db")]
            yield from multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        counters = self._directory.glob("counter_*.db")
        yield from _processes({int(path.stem.split("_")[1]) for path in counters})


def _processes(pids: set[int]) -> Iterator[GaugeMetricFamily]:
    """The resources that all processes of this server use. Nothing if there is no /proc."""
    alive = [Path("/proc", str(pid)) for pid in pids - {0}]
    alive = [process for process in alive if process.exists()]
    if not alive:
        return
    uses: dict[str, tuple[str, Callable[[Path], int]]] = {
        "server_processes": ("Workers and their parent", lambda _: 1),
        "server_resident_memory_bytes": (
            "Resident memory of all processes; memory that they share counts once for each",
            lambda process: int((process / "statm").read_text().split()[1]) * PAGE_SIZE,
        ),
        "server_open_files": (
            "Open files and sockets of all processes",
            lambda process: len(list((process / "fd").iterdir())),
        ),
        "server_threads": (
            "Threads of all processes",
            lambda process: len(list((process / "task").iterdir())),
        ),
    }
    for name, (meaning, measure) in uses.items():
        total = 0
        for process in alive:
            with suppress(OSError):  # it has just ended
                total += measure(process)
        yield GaugeMetricFamily(name, meaning, value=total)


def reserve(pid: int, directory: Path) -> None:
    """Give a process its files, with all the disk space that they need. Raises OSError.

    prometheus_client writes to mapped memory: without space on the disk, SIGBUS would end the
    process. A worker takes spare files if there are some, so it needs no further space.
    """
    with _locked(directory, fcntl.LOCK_EX):
        files = [_spare(kind, directory) or _new(kind, directory) for kind in SIZES]
        for kind, file in zip(SIZES, files, strict=True):
            file.rename(directory / f"{kind}_{pid}.db")


def reserve_spares(number: int, directory: Path) -> None:
    """Make spare files for a number of workers. Raises OSError."""
    for spare in range(number):
        for kind in SIZES:
            _new(kind, directory).rename(directory / f"{kind}_new{spare}.spare")


def _spare(kind: str, directory: Path) -> Path | None:
    """A spare file, emptied, if there is one."""
    for path in directory.glob(f"{kind}_*.spare"):
        with path.open("r+b") as file:
            file.write(bytes(SIZES[kind]))
        return path
    return None


def _new(kind: str, directory: Path) -> Path:
    """A new file of the full size. It replaces one that could not be finished for lack of space."""
    path = directory / f"{kind}.new"
    path.write_bytes(bytes(SIZES[kind]))
    return path


def retire(pid: int, directory: Path) -> None:
    """Add the counts of a worker that has ended to the total, and keep its files as spares."""
    with _locked(directory, fcntl.LOCK_EX):
        for kind in SIZES:
            ended = directory / f"{kind}_{pid}.db"
            if ended.exists():
                if not kind.startswith("gauge"):
                    _add(ended, directory / f"{kind}_{TOTAL}.db")
                ended.rename(ended.with_suffix(".spare"))


def _add(ended: Path, total: Path) -> None:
    sums: Any = MmapedDict(str(total))  # type: ignore[no-untyped-call]
    for key, value, _, _ in MmapedDict.read_all_values_from_file(str(ended)):  # type: ignore[no-untyped-call]
        sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
    sums.close()


@contextmanager
def _locked(directory: Path, kind: int) -> Iterator[None]:
    """Lock the files, so that a scrape does not count a worker twice while they are merged."""
    with (directory / "merge.lock").open("a") as file:
        fcntl.flock(file, kind)
        yield
