"""Fixtures of the tests of deployments: each module has its own two."""

from collections.abc import Iterator

import pytest

from production.deployments import Deployment, on_postgresql, on_sqlite
from stand_in.server import Faults


@pytest.fixture(scope="module")
def sqlite_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with on_sqlite(tmp_path_factory.mktemp("sqlite")) as running:
        yield running


@pytest.fixture(scope="module")
def postgresql_and_redis(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with on_postgresql(tmp_path_factory.mktemp("postgresql"), redis_url) as running:
        yield running


@pytest.fixture(params=["sqlite_alone", "postgresql_and_redis"])
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """Either deployment, with a provider without faults."""
    running: Deployment = request.getfixturevalue(request.param)
    running.provider.reset()
    yield running
    running.provider.faults = Faults()
