"""The service under gunicorn while its PostgreSQL is blocked, stalled or restarted."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest
import requests
from helpers import eventually
from keepalive import connection_to_each_worker, get
from private_postgresql import PrivatePostgresql
from served import Served, served

from movies.database.connections import MAX_CALLERS
from movies.november7.sample.catalogue import sample_movies
from movies.november7.singleflight import MAX_WAITERS, share_of
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.slow  # two servers are started for it

MOVIES = [movie["id"] for movie in sample_movies()]
WRITERS = 60  # two workers have 24 connections for transactions


@pytest.fixture(scope="module")
def api(
    private_server: PrivatePostgresql, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    private_server.execute("CREATE DATABASE pressure")
    url = private_server.url.replace("/postgres", "/pressure")
    parameters = "?options=-c%20statement_timeout%3D3000&connect_timeout=2"
    with served(tmp_path_factory.mktemp("pressure"), DATABASE_URL=url + parameters) as running:
        assert vote(running, MOVIES[0]).status_code == 201
        yield running


@pytest.fixture
def hanging(
    private_server: PrivatePostgresql, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """One worker, whose provider accepts requests and does not respond."""
    private_server.execute("CREATE DATABASE hanging")
    with (
        StandIn(faults=Faults(hang=1)) as november7,
        served(
            tmp_path_factory.mktemp("hanging"),
            DATABASE_URL=private_server.url.replace("/postgres", "/hanging"),
            NOVEMBER7_URL=november7.url,
            NOVEMBER7_DEADLINE="300",
            WEB_CONCURRENCY="1",
        ) as running,
    ):
        yield running
        november7.stop()
        november7.faults = Faults()
        november7.start()  # the worker asks again, and has nothing to wait for when it stops


def vote(api: Served, movie_id: str, rating_type: str = "UPVOTE") -> requests.Response:
    body = {"rating_type": rating_type}
    return api.ask("PUT", f"/api/v1/movies/{movie_id}/rating/", json=body)


def is_expected(answer: requests.Response) -> bool:
    """Whether a response is a success, or a problem that says when to try again."""
    if answer.ok:
        return True
    kind = answer.headers["Content-Type"]
    return (answer.status_code, kind) == (503, "application/problem+json") and (
        int(answer.headers["Retry-After"]) > 0
    )


def test_writers_that_wait_for_a_lock_delay_no_reader(
    api: Served, private_server: PrivatePostgresql
) -> None:
    api.search("matrix")
    url = private_server.url.replace("/postgres", "/pressure")
    with ThreadPoolExecutor(WRITERS) as pool:
        with psycopg.connect(url) as lock:
            lock.execute("SELECT 1 FROM movies WHERE id = %s FOR UPDATE", [MOVIES[0]])
            blocked = [
                pool.submit(vote, api, MOVIES[0], ("UPVOTE", "DOWNVOTE")[number % 2])
                for number in range(WRITERS)
            ]
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            assert eventually(lambda: private_server.execute(waiting)[0][0] > 0, within=30)
            reads = [
                api.search("matrix"),
                api.ask("GET", "/api/v1/movies/top/"),
                api.ask("GET", "/api/v1/movies/ratings/"),
                api.ask("GET", "/health/ready"),
            ]
            assert private_server.execute(waiting)[0][0] > 0
            assert [answer.status_code for answer in reads] == [200] * 4
        answers = [future.result() for future in blocked]
    assert all(map(is_expected, answers)), Counter(answer.status_code for answer in answers)


def test_a_stalled_server_leaves_liveness_alone(
    api: Served, private_server: PrivatePostgresql
) -> None:
    """However many callers wait for the database, some threads stay free."""
    callers: list[Future[requests.Response]] = []
    with ThreadPoolExecutor(300) as pool:
        private_server.pause()
        try:
            callers = [
                pool.submit(api.ask, "GET", "/api/v1/movies/top/", timeout=60) for _ in range(300)
            ]
            assert eventually(lambda: any(caller.done() for caller in callers), within=30)
            assert [api.ask("GET", "/health/live").status_code for _ in range(5)] == [200] * 5
            assert api.ask("GET", "/health/ready").status_code == 503
            answers = [caller.result() for caller in callers]
        finally:
            private_server.resume()
    assert Counter(answer.status_code for answer in answers) == {503: 300}
    assert all(map(is_expected, answers))
    assert eventually(lambda: vote(api, MOVIES[0]).ok, within=30)


def test_a_provider_and_a_database_that_both_hang_leave_liveness_alone(
    hanging: Served, private_server: PrivatePostgresql
) -> None:
    """That callers are refused proves that as many as are ever admitted wait in both places."""
    shares = [share_of(MAX_WAITERS), MAX_WAITERS - share_of(MAX_WAITERS)]
    users = [hanging.headers, hanging.sign_in("grace@example.com")]
    with ExitStack() as stack:

        def send(path: str, headers: dict[str, str]) -> None:
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", int(hanging.url.rpartition(":")[2])))
            )
            lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            client.sendall("\r\n".join([*lines, "", ""]).encode())

        for headers, share in zip(users, shares, strict=True):
            for _ in range(share):
                send("/api/v1/movies/?query=matrix", headers)
        joined = "november7_fetches_joined_total"
        assert eventually(lambda: hanging.metric(joined) == MAX_WAITERS - 1)
        private_server.pause()
        stack.callback(private_server.resume)

        def is_full() -> bool:
            for _ in range(MAX_CALLERS + 10):
                send("/api/v1/movies/top/", hanging.headers)
            refused = "callers are waiting for the database"
            return eventually(lambda: refused in hanging.log, within=1)

        assert eventually(is_full)
        assert hanging.ask("GET", "/health/live").ok
        assert hanging.metric("november7_bulkhead_in_use") == 1


def test_terminated_connections_never_cause_a_500(
    api: Served, private_server: PrivatePostgresql
) -> None:
    """Neither in the middle of a request nor at its end, when its transaction is closed."""
    stop = threading.Event()

    def call(number: int) -> list[requests.Response]:
        answers: list[requests.Response] = []
        while not stop.is_set():
            answers += [
                vote(api, MOVIES[number], ("UPVOTE", "DOWNVOTE")[len(answers) % 2]),
                api.ask("GET", "/api/v1/users/me/"),
                api.ask("GET", "/api/v1/movies/ratings/"),
            ]
        return answers

    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(call, number) for number in range(6)]
        try:
            for _ in range(4):
                private_server.terminate_backends()
        finally:
            stop.set()
        answers = [answer for future in calls for answer in future.result()]
    unexpected = [answer.text for answer in answers if not is_expected(answer)]
    assert unexpected == []
    assert any(answer.ok for answer in answers)
    assert eventually(lambda: vote(api, MOVIES[0]).ok, within=30)


def test_tokens_of_a_sign_in_that_has_ended_cost_no_statement(
    api: Served, private_server: PrivatePostgresql
) -> None:
    """A worker that has refused one refuses the next without the database."""
    headers = api.sign_in("mary@example.com")
    with psycopg.connect(private_server.url.replace("/postgres", "/pressure")) as connection:
        connection.execute("DELETE FROM sign_ins")
    with connection_to_each_worker(api) as workers:
        assert [get(one, "/api/v1/users/me/", **headers).status for one in workers] == [401, 401]
        private_server.pause()
        try:
            answers = [get(one, "/api/v1/users/me/", **headers) for one in workers * 10]
        finally:
            private_server.resume()
    assert {answer.status for answer in answers} == {401}
