"""Counters of rate limits when the store that processes share fails, flaps or loses its data."""

import logging
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import time_machine
from helpers import eventually
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from services import free_port

from movies import counters
from movies.counters import Counters, RedisStore, SQLiteStore

FAILED = "the rate-limit store failed; each process now counts on its own"
RECOVERED = "the rate-limit store recovered"


class OwnRedis:
    """A private Redis, which the test may stop, suspend and start again without its data."""

    def __init__(self, binary: str, directory: Path) -> None:
        self._port = free_port()
        self._command = [binary, "--bind", "127.0.0.1", "--port", str(self._port), "--save", ""]
        self._command += ["--dir", str(directory)]
        self.client = self.connect(30)
        self.start()

    def connect(self, timeout: float) -> Redis:
        """A client that waits for a response for this number of seconds."""
        return Redis(port=self._port, socket_timeout=timeout, retry=Retry(NoBackoff(), 1))

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        assert eventually(self._is_up, within=30)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _is_up(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis that the test may stop."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    server = OwnRedis(binary, tmp_path)
    yield server
    server.stop()
    server.client.close()


@pytest.fixture
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that failed is asked again for the next hit."""
    monkeypatch.setattr(counters, "RETRY_INTERVAL", 0.0)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "movies.counters"]


def hits(counting: Counters, times: int) -> list[int]:
    return [counting.hit({"key": 0})[0].hits for _ in range(times)]


@pytest.mark.usefixtures("retries_at_once")
def test_counting_goes_on_when_redis_stops_and_comes_back_empty(
    own_redis: OwnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """No count is reset. The start and the end of the outage are logged once each."""
    caplog.set_level(logging.WARNING)
    counting = Counters(RedisStore(own_redis.client))
    assert hits(counting, 3) == [1, 2, 3]
    own_redis.stop()
    assert hits(counting, 3) == [4, 5, 6]
    assert messages(caplog) == [FAILED]
    assert "ConnectionError" in caplog.records[-1].reason  # type: ignore[attr-defined]
    own_redis.start()
    assert hits(counting, 3) == [7, 8, 9]
    assert messages(caplog) == [FAILED, RECOVERED]
    own_redis.stop()
    own_redis.start()
    assert hits(counting, 2) == [10, 11]


def test_a_redis_that_hangs_is_not_used_for_a_while(
    own_redis: OwnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """One hit waits for it, the others do not ask it."""
    with closing(own_redis.connect(0.2)) as client:
        counting = Counters(RedisStore(client))
        hits(counting, 1)
        own_redis.process.send_signal(signal.SIGSTOP)
        try:
            assert hits(counting, 50) == list(range(2, 52))
        finally:
            own_redis.process.send_signal(signal.SIGCONT)
    assert messages(caplog) == [FAILED]


def test_a_key_of_redis_without_an_expiry_gets_one(own_redis: OwnRedis) -> None:
    own_redis.client.set("movies:rate-limit:key", 7)
    assert RedisStore(own_redis.client).add({"key": 1}) == [(8, counters.WINDOW)]
    assert own_redis.client.ttl("movies:rate-limit:key") == counters.WINDOW


def damage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)


def make_a_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.usefixtures("retries_at_once")
@pytest.mark.parametrize("spoil", [damage, make_a_directory], ids=lambda spoil: spoil.__name__)
def test_counting_goes_on_without_a_usable_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "counters"
    spoil(path)
    counting = Counters(SQLiteStore(path))
    assert hits(counting, 3) == [1, 2, 3]
    assert messages(caplog)[0] == FAILED


@pytest.mark.usefixtures("retries_at_once")
def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    damage(tmp_path / "counters")
    first = Counters(SQLiteStore(tmp_path / "counters"))
    hits(first, 3)
    assert hits(Counters(SQLiteStore(tmp_path / "counters")), 1) == [3]


def test_counting_goes_on_while_the_file_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "SQLITE_TIMEOUT", 0.01)
    counting = Counters(SQLiteStore(tmp_path / "counters"))
    hits(counting, 2)
    with closing(sqlite3.connect(tmp_path / "counters", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert hits(counting, 3) == [3, 4, 5]


@pytest.mark.usefixtures("retries_at_once")
def test_hits_that_were_not_shared_count_during_an_outage(own_redis: OwnRedis) -> None:
    counting = Counters(RedisStore(own_redis.client))
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        assert [counting.hit({"key": 9})[0].hits for _ in range(3)] == [1, 2, 3]
        own_redis.stop()
        clock.shift(2 * counters.SHARE_INTERVAL)
        assert [counting.hit({"key": 9})[0].hits for _ in range(3)] == [4, 5, 6]
