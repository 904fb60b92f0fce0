"""A PostgreSQL primary stops and its standby is promoted, under traffic."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import eventually
from private_postgresql import PrivatePostgresql, private_postgresql
from served import Served, served

from production.traffic import traffic

pytestmark = pytest.mark.slow


@pytest.fixture
def primary() -> Iterator[PrivatePostgresql]:
    with private_postgresql(max_wal_senders=4, hot_standby="on") as server:
        yield server


@pytest.fixture
def standby(primary: PrivatePostgresql) -> Iterator[PrivatePostgresql]:
    """A standby that confirms every commit before the primary acknowledges it."""
    with primary.standby() as server:
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        assert eventually(lambda: bool(primary.execute(synchronous)), within=30)
        yield server


@pytest.fixture
def api(primary: PrivatePostgresql, standby: PrivatePostgresql, tmp_path: Path) -> Iterator[Served]:
    hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
    url = f"postgresql://movies@/postgres?{hosts}&target_session_attrs=read-write"
    with served(tmp_path, DATABASE_URL=url) as running:
        yield running


def test_a_promoted_standby_is_found_and_no_acknowledged_vote_is_lost(
    api: Served, primary: PrivatePostgresql, standby: PrivatePostgresql
) -> None:
    def readiness() -> int:
        return api.ask("GET", "/health/ready").status_code

    assert readiness() == 200
    with traffic(api.url) as users:
        primary.stop()
        assert users.is_refused()
        assert readiness() == 503
        assert api.ask("GET", "/health/live").ok
        standby.execute("SELECT pg_promote()")
        assert users.goes_on()
        assert eventually(lambda: readiness() == 200, within=30)
    assert users.unexpected == []
    assert users.lost() == []
