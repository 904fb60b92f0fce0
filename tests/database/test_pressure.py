"""The service under gunicorn while its PostgreSQL is blocked, stalled or restarted."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest
import requests
from helpers import eventually
from private_postgresql import PrivatePostgresql
from served import Served, served

from movies.november7.sample.catalogue import sample_catalogue

pytestmark = pytest.mark.slow  # two servers are started for it

MOVIES = [movie["id"] for movie in sample_catalogue().movies]
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


def test_terminated_connections_never_answer_with_a_bare_500(
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
        for _ in range(4):
            private_server.terminate_backends()
        stop.set()
        answers = [answer for future in calls for answer in future.result()]
    unexpected = [answer.text for answer in answers if not is_expected(answer)]
    assert unexpected == []
    assert any(answer.ok for answer in answers)
    assert eventually(lambda: vote(api, MOVIES[0]).ok, within=30)
