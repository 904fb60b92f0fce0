"""Log lines: their format, the ids of requests, one access line per request."""

import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import time_machine
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from helpers import eventually
from served import Served, served

from movies.logs import REPEATS, WINDOW, _Handler, _Unbuffered, begin_request, trace, trace_headers
from stand_in.server import StandIn

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def written(record: dict[str, Any], *, as_json: bool) -> str:
    """The text that a log record becomes, without the end of the line."""
    handler = _Handler(as_json)
    stream = io.StringIO()
    handler.setStream(stream)
    handler.handle(
        logging.makeLogRecord({"levelno": 20, "levelname": "INFO", "name": "movies", **record})
    )
    return stream.getvalue().removesuffix("\n")


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
@pytest.mark.parametrize("harm", ["\n", "\r", "\u2028", "\x1b[2J", "\x85"])
def test_a_line_cannot_be_forged(as_json: bool, harm: str) -> None:
    line = written({"msg": f"x{harm}y", "reason": f"x{harm}y"}, as_json=as_json)
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


def test_lines_of_the_development_server_have_no_colors() -> None:
    record = {"name": "werkzeug", "msg": "\x1b[31m\x1b[1mWARNING\x1b[0m\n * Running on %s"}
    line = written({**record, "args": ("\x1b[33mhttp://x\x1b[0m\x1b[2J",)}, as_json=False)
    assert r"INFO werkzeug: WARNING  * Running on http://x\x1b[2J" in line


def test_a_json_line_has_the_ids_of_the_request() -> None:
    begin_request("the-id", TRACEPARENT)
    line = json.loads(written({"msg": "x", "reason": "y"}, as_json=True))
    assert (line["request_id"], line["trace_id"], line["reason"]) == ("the-id", TRACE_ID, "y")
    assert {"time", "level", "logger", "message"} <= set(line)


def test_a_text_line_has_the_fields_that_have_a_value() -> None:
    begin_request("the-id")
    line = written({"msg": "x", "reason": 'a "b"', "count": 3, "empty": None}, as_json=False)
    assert line.endswith('INFO movies: x reason="a \\"b\\"" count=3 request_id="the-id"')


def test_lines_of_many_threads_are_whole() -> None:
    """They are written without a lock."""
    reading, writing = os.pipe()
    handler = _Handler(as_json=True)
    handler.setStream(_Unbuffered(writing))
    record = {"levelno": logging.INFO, "name": "movies", "msg": "x" * 500}

    def log() -> None:
        for _ in range(500):
            handler.handle(logging.makeLogRecord(record))

    with ThreadPoolExecutor(8) as threads, open(reading) as lines:
        logged = [threads.submit(log) for _ in range(8)]
        messages = [json.loads(lines.readline())["message"] for _ in range(8 * 500)]
        for done in logged:
            done.result()
    os.close(writing)
    assert set(messages) == {record["msg"]}


def test_warnings_that_repeat_are_summarized() -> None:
    handler, stream = _Handler(as_json=True), io.StringIO()
    handler.setStream(stream)
    now = 1_000_000.0  # seconds since the epoch

    def log(level: int, message: str, times: int = 1) -> None:
        for number in range(times):
            record = {"levelno": level, "msg": message, "args": (number,), "created": now}
            handler.handle(logging.makeLogRecord({"name": "movies", **record}))

    log(logging.WARNING, "refused %s", 1000)
    log(logging.ERROR, "failed %s")
    log(logging.INFO, "answered %s", 100)
    assert len(stream.getvalue().splitlines()) == REPEATS + 1 + 100
    now += WINDOW
    handler.handle(logging.makeLogRecord({"levelno": logging.ERROR, "msg": ["a", "list"]}))
    log(logging.WARNING, "refused %s")
    summary, _, line = [json.loads(line) for line in stream.getvalue().splitlines()[-3:]]
    assert (summary["message"], summary["times"]) == ("repeated: refused %s", 1000 - REPEATS)
    assert line["message"] == "refused 0"


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        TRACEPARENT.upper(),
        f"ff-{TRACE_ID}-b7ad6b7169203331-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"{TRACEPARENT}-more",
        f"{TRACEPARENT}\n",
        TRACEPARENT[:-1],
    ],
)
def test_a_malformed_traceparent_is_ignored(traceparent: str) -> None:
    begin_request(None, traceparent, "vendor=1")
    assert (trace.get(), trace_headers()) == (None, {})


@pytest.mark.parametrize("traceparent", [TRACEPARENT, f"01{TRACEPARENT[2:]}-more"])
def test_a_trace_is_passed_on_with_a_span_of_our_own(traceparent: str) -> None:
    begin_request(None, traceparent, "vendor=1")
    headers = trace_headers()
    assert re.fullmatch(rf"00-{TRACE_ID}-[0-9a-f]{{16}}-01", headers["traceparent"])
    assert headers["traceparent"] != TRACEPARENT
    assert headers["tracestate"] == "vendor=1"


def access_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "movies.access_log"]


@ONE_DATABASE
def test_each_request_has_one_access_line(
    client: FlaskClient, auth: Accounts, caplog: pytest.LogCaptureFixture
) -> None:
    headers = auth.headers("ada@example.com")
    caplog.clear()
    answer = client.get("/api/v1/movies/?query=matrix", headers=headers)
    client.get("/api/v1/movies/?query=matrix", headers=headers)
    first, second = access_lines(caplog)
    assert first["message"] == "GET /api/v1/movies/ 200"
    assert first["route"] == "/api/v1/movies/"
    assert (first["method"], first["status"], first["user_id"]) == ("GET", 200, 1)
    assert (first["provider"], second["provider"]) == ("miss", "hit")
    assert first["bytes"] == len(answer.data)
    assert first["duration_ms"] > 0


@ONE_DATABASE
def test_an_access_line_says_where_the_movies_came_from(
    make_app: Callable[..., Flask],
    caplog: pytest.LogCaptureFixture,
    clock: time_machine.Traveller,
) -> None:
    client = make_app(NOVEMBER7_TTL=60).test_client()
    headers = Accounts(client).headers()
    caplog.clear()
    for seconds in (0, 59, 2):
        clock.shift(seconds)
        client.get("/api/v1/movies/?query=matrix", headers=headers)
    assert [line["provider"] for line in access_lines(caplog)] == ["miss", "hit", "stale"]


@ONE_DATABASE
def test_an_access_line_names_the_route_and_not_what_a_client_wrote(
    client: FlaskClient, auth: Accounts, caplog: pytest.LogCaptureFixture
) -> None:
    headers = auth.headers("ada@example.com")
    caplog.clear()
    client.get("/api/v1/movies/ratings/1", headers=headers)
    client.open("/api/v1/secret", method="BREW", headers={"Authorization": "Bearer secret"})
    rating, unknown = access_lines(caplog)
    assert rating["route"].startswith("/api/v1/movies/ratings/<id:")
    assert (unknown["route"], unknown["method"], unknown["status"]) == ("unmatched", "other", 404)
    assert "user_id" not in unknown
    assert "secret" not in caplog.text
    assert "ada@" not in caplog.text


@ONE_DATABASE
def test_probes_are_logged_when_they_fail(
    make_app: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    client = make_app(DATABASE_URL="postgresql://postgres@127.0.0.1:1/nothing").test_client()
    with caplog.at_level(logging.INFO):
        client.get("/health/live")
        client.get("/health/ready")
    assert [line["message"] for line in access_lines(caplog)] == ["GET /health/ready 503"]


@ONE_DATABASE
def test_commands_are_quiet(runner: FlaskCliRunner, capfd: pytest.CaptureFixture[str]) -> None:
    assert runner.invoke(args=["ratings", "check"]).exit_code == 0
    assert capfd.readouterr().err == ""


@pytest.fixture(scope="module")
def provider() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


@pytest.fixture(scope="module")
def server(provider: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The application as in production, except for its database."""
    directory = tmp_path_factory.mktemp("served")
    settings = {
        "MOVIES_CONFIG": "production",
        "HOST": "127.0.0.1",
        "DATABASE_URL": f"sqlite:///{directory}/movies.sqlite3",
        "NOVEMBER7_URL": provider.url,
    }
    with served(directory, **settings) as running:
        yield running


@pytest.mark.slow
def test_in_production_every_line_is_json_gunicorns_included(server: Served) -> None:
    server.search("matrix", headers={**server.headers, "X-Request-ID": "the-id"})
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert {"gunicorn.error", "movies.access_log"} <= {line["logger"] for line in lines}
    [access] = [line for line in lines if line["request_id"] == "the-id"]
    assert (access["route"], access["status"], access["provider"]) == (
        "/api/v1/movies/",
        200,
        "miss",
    )
    assert not any(
        "ada@example.com" in line or "Bearer" in line for line in server.log.splitlines()
    )


@pytest.mark.slow
def test_a_trace_reaches_the_provider(server: Served, provider: StandIn) -> None:
    server.search("traced", headers={**server.headers, "traceparent": TRACEPARENT})
    assert any(TRACE_ID in headers.get("traceparent", "") for headers in provider.headers)
    assert eventually(lambda: f'"trace_id":"{TRACE_ID}"' in server.log, within=30)


DOCUMENTED = Path(__file__).parents[1] / "docs" / "operations.md"


def table(heading: str) -> set[str]:
    """The names in the first column of a table of docs/operations.md."""
    section = DOCUMENTED.read_text().split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    return {
        name
        for row in re.findall(r"^\| ([^|]*`[^|]*)\|", section, re.M)
        for name in re.findall(r"`(\w+)`", row)
    }


@pytest.mark.slow
def test_the_documented_metrics_are_those_that_exist(server: Served) -> None:
    server.search("matrix")
    text = server.ask("GET", "/metrics").text
    existing = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    assert existing == table("Metrics")


@pytest.mark.slow
def test_the_documented_fields_are_those_of_the_log(server: Served) -> None:
    server.search("matrix")
    lines = [json.loads(line) for line in server.log.splitlines()]
    fields = {name for line in lines if line["logger"] == "movies.access_log" for name in line}
    assert fields == table("Logs")
