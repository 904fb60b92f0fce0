"""Redis is killed, replaced by its replica, or too small, under traffic with rate limits."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from helpers import eventually
from served import Served, served
from services import free_port

from production.traffic import traffic

pytestmark = pytest.mark.slow

ENTRIES = "{november7}:ages"  # the key of the sorted set of what is cached


class PrivateRedis:
    """A Redis server that a test may kill. It keeps nothing on disk."""

    def __init__(self, directory: Path, port: int, *arguments: str) -> None:
        self.port = port
        self.client = redis.Redis(port=port, socket_timeout=5)
        self._command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        self._command += ["--dir", str(directory), *arguments]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        assert eventually(self._is_up, within=30)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)

    def _is_up(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    running = PrivateRedis(tmp_path_factory.mktemp("redis"), free_port())
    yield running
    running.kill()
    running.client.close()


@pytest.fixture(scope="module")
def api(server: PrivateRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    url = f"redis://127.0.0.1:{server.port}/0"
    directory = tmp_path_factory.mktemp("served")
    with served(directory, REDIS_URL=url, RATELIMIT_ENABLED="true") as running:
        yield running


def stores_again(api: Served, server: PrivateRedis) -> bool:
    """Whether a search is stored in Redis, and found by somebody."""
    before = server.client.zcard(ENTRIES)
    numbers = iter(range(10_000))

    def is_stored() -> bool:
        answer = api.search(f"asked after the fault {next(numbers)}")
        assert answer.ok, answer.text
        return bool(server.client.zcard(ENTRIES) > before)

    return eventually(is_stored, within=30)


def test_a_killed_redis_and_an_empty_one_cost_no_request(api: Served, server: PrivateRedis) -> None:
    with traffic(api.url) as users:
        server.kill()
        assert users.goes_on()
        server.start()
        assert users.goes_on()
        assert stores_again(api, server)
    assert set(users.outcomes) <= {"200", "201"}, users.unexpected
    assert users.lost() == []
    assert "the rate-limit store failed; each process now counts on its own" in api.log
    works_again = "the rate-limit store recovered"  # a request notices it
    assert eventually(lambda: api.search("matrix").ok and works_again in api.log)


def test_a_redis_that_refuses_to_write_is_still_read(api: Served, server: PrivateRedis) -> None:
    """What is cached is served by the worker that has not read it before, too."""
    before = server.client.zcard(ENTRIES)
    cached = [f"cached {number}" for number in range(12)]
    for text in cached:
        assert api.search(text).ok
    assert eventually(lambda: server.client.zcard(ENTRIES) == before + len(cached))
    server.client.config_set("min-replicas-to-write", 1)  # and it has none
    try:
        for number in range(4):
            assert api.search(f"not to be stored {number}").ok
        found = {api.search(text).headers["Cache-Status"].split("; ")[1] for text in cached * 2}
    finally:
        server.client.config_set("min-replicas-to-write", 0)
    assert found == {"hit"}
    assert stores_again(api, server)


def test_a_redis_that_evicts_costs_no_request(api: Served, server: PrivateRedis) -> None:
    used = server.client.info("memory")["used_memory"]
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    server.client.config_set("maxmemory", used + 2_000_000)
    with traffic(api.url) as users:
        for number in range(300):
            if server.client.info("stats")["evicted_keys"]:
                break
            assert api.search(f"query {number}").ok
            server.client.set(f"another application's {number}", "x" * 20_000)
        assert server.client.info("stats")["evicted_keys"] > 0
        assert users.goes_on()
    server.client.config_set("maxmemory", 0)
    assert set(users.outcomes) <= {"200", "201"}, users.unexpected
    assert users.lost() == []


def test_a_promoted_replica_costs_no_request(
    api: Served, server: PrivateRedis, tmp_path: Path
) -> None:
    """The last of this module, as it ends the server."""
    replica = PrivateRedis(tmp_path, free_port(), "--replicaof", "127.0.0.1", str(server.port))
    try:
        with traffic(api.url) as users:
            assert eventually(
                lambda: replica.client.info("replication")["master_link_status"] == "up", within=30
            )
            server.kill()
            assert users.goes_on()
            replica.client.config_set("port", server.port)  # it takes over the address
            assert users.goes_on()  # on a replica, which refuses to write
            server.client.replicaof("NO", "ONE")
            assert users.goes_on()
            assert stores_again(api, server)
    finally:
        replica.kill()
        replica.client.close()
    assert set(users.outcomes) <= {"200", "201"}, users.unexpected
    assert users.lost() == []
