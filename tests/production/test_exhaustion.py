"""A server runs out of disk space, of file descriptors and of threads, and recovers."""

import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import requests
from helpers import eventually
from served import WORKERS, Served, served

from production.process_limits import limited
from production.traffic import MOVIES, traffic

pytestmark = pytest.mark.slow

ROOM = 24 * 2**20  # bytes of address space: for two or three stacks of 8 MiB


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 20 MB."""
    directory = tmp_path_factory.mktemp("disk")
    root = [] if os.getuid() == 0 else ["sudo", "-n"]
    if root and shutil.which("sudo") is None:
        pytest.skip("a small file system can only be mounted by root")
    mount = [*root, "mount", "-t", "tmpfs", "-o", "size=20m,mode=1777", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield directory
    subprocess.run([*root, "umount", "--lazy", str(directory)], check=True)


@pytest.fixture(scope="module")
def api(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """On SQLite, with everything that it stores on the small disk, except its log."""
    directory = tmp_path_factory.mktemp("exhaustion")
    with served(directory, INSTANCE_DIR=str(disk), RATELIMIT_ENABLED="true") as running:
        yield running


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """No byte is left on the disk while the block runs."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    try:
        yield
    finally:
        filler.unlink()


def rename(api: Served, number: int) -> requests.Response:
    """A write that needs space soon, when it is repeated with another number."""
    return api.ask("PATCH", "/api/v1/users/me/", json={"first_name": f"{number:060}"})


def test_a_full_disk_costs_writes_and_no_worker(api: Served, disk: Path) -> None:
    workers = api.pids
    with traffic(api.url) as users:
        with full(disk):
            written = iter(range(10_000))
            assert eventually(lambda: rename(api, next(written)).status_code == 503, within=60)
            refused = rename(api, 0)
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert int(refused.headers["Retry-After"]) > 0
            for number in range(20):  # none is cached, and none can be stored
                assert api.search(f"asked of a full disk {number}").ok
            assert api.ask("GET", "/api/v1/movies/top/").ok
            assert api.ask("GET", "/health/ready").ok
            api.kill(workers[0])  # another one takes its place
            assert eventually(lambda: len(api.pids) == WORKERS, within=30)
            assert [api.search("matrix").status_code for _ in range(8)] == [200] * 8
            remaining = set(api.pids)
            for _ in range(2):
                os.kill(api.pid, signal.SIGHUP)  # all workers are replaced
            assert eventually(lambda: len(api.pids) == WORKERS and not remaining & set(api.pids))
            assert [api.search("matrix").status_code for _ in range(8)] == [200] * 8
        assert users.goes_on()
    assert "SQLITE_FULL" in api.log
    assert "the provider cache failed; continuing without it" in api.log
    assert [text for text in users.unexpected if "onnection" not in text] == []  # the killed one's
    assert users.lost() == []


def test_votes_and_counts_agree_after_a_full_disk(api: Served) -> None:
    checked = api.run("ratings", "check")
    assert checked.returncode == 0, checked.stderr


def test_a_lack_of_file_descriptors_is_survived(api: Served) -> None:
    """Clients are accepted again as soon as there are descriptors."""
    workers = api.pids
    port = int(api.url.rpartition(":")[2])
    in_use = [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in workers]
    with ExitStack() as stack:
        limits = [number + 16 for number in in_use]
        stack.enter_context(limited(workers, resource.RLIMIT_NOFILE, limits))
        for _ in range(40 * WORKERS):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
        assert eventually(lambda: "no file descriptor is left" in api.log, within=30)
    assert eventually(lambda: api.ask("GET", "/api/v1/movies/top/").ok, within=30)
    with traffic(api.url) as users:
        assert users.goes_on()
    assert api.pids == workers
    assert users.lost() == []


def test_a_lack_of_threads_is_survived(api: Served, disk: Path) -> None:
    """Requests wait for the threads that there are. Root is exempt from limits on processes, but
    not from limits on address space, which the stack of a thread needs."""
    workers = api.pids
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[0]) for pid in workers]
    limits = [number * resource.getpagesize() + ROOM for number in pages]
    votes = [f"/api/v1/movies/{movie}/rating/" for movie in MOVIES] * 12
    vote = {"rating_type": "UPVOTE"}
    with (
        closing(sqlite3.connect(disk / "movies.sqlite3", isolation_level=None)) as other,
        limited(workers, resource.RLIMIT_AS, limits),
        ThreadPoolExecutor(len(votes)) as pool,
    ):
        other.execute("BEGIN IMMEDIATE")  # so that each vote occupies a thread
        sent = [pool.submit(api.ask, "PUT", path, json=vote) for path in votes]
        is_exhausted = eventually(lambda: "no thread could be started" in api.log, within=60)
        other.execute("ROLLBACK")
        answers = [future.result() for future in sent]
    assert is_exhausted
    statuses = {answer.status_code for answer in answers}
    # The limit is on memory as well.
    assert statuses <= {200, 201, 503, *([500] if "MemoryError" in api.log else [])}, api.log
    with traffic(api.url) as users:
        assert users.goes_on()
    assert api.pids == workers
