"""Headers of answers: what browsers, proxies and scripts on other sites are told."""

import json
import logging
from collections.abc import Callable

import pytest
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient

from movies.logs import _RequestId, configure_logging

PAGES = ("/api/schema/swagger-ui/", "/api/schema/redoc/")
NOT_PAGES = ("/api/schema/", "/api/v1/users/me/", "/nothing", "/health/live", "/metrics")
ORIGIN = "https://app.example"
MakeApp = Callable[..., Flask]
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize("path", [*PAGES, *NOT_PAGES, "/"])
@ONE_DATABASE
def test_every_answer_has_the_headers_of_caution(client: FlaskClient, path: str) -> None:
    """No sniffing, no referrer, no frame; errors and redirects included."""
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Server" not in headers


@pytest.mark.parametrize("path", NOT_PAGES)
@ONE_DATABASE
def test_what_is_no_page_may_load_nothing(client: FlaskClient, path: str) -> None:
    """An answer of the API that is taken for a page can't do anything."""
    policy = client.get(path).headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("path", PAGES)
def test_pages_run_only_their_own_scripts(client: FlaskClient, path: str) -> None:
    """Scripts are those of this host: none inline, none evaluated."""
    policy = client.get(path).headers["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert directives["connect-src"] == "'self'"
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize(("name", "expected"), [("production", True), ("testing", False)])
def test_only_production_insists_on_https(make_app: MakeApp, name: str, expected: bool) -> None:
    """Strict-Transport-Security is sent where the setting of production says so."""
    from config import CONFIGS

    app = make_app(HSTS=CONFIGS[name].HSTS)
    assert ("Strict-Transport-Security" in app.test_client().get("/").headers) is expected


def test_answers_of_the_api_are_not_stored(client: FlaskClient, auth: Accounts) -> None:
    """No cache between us and a user keeps what is the user's."""
    answer = client.get("/api/v1/users/me/", headers=auth.headers())
    assert answer.headers["Cache-Control"] == "no-store"


def test_other_origins_are_shut_out(client: FlaskClient) -> None:
    """Without CORS_ORIGINS no answer names an origin that may read it."""
    answer = client.get("/api/v1/movies/top/", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "allowed"), [(ORIGIN, ORIGIN), ("https://evil.example", None), ("null", None)]
)
@ONE_DATABASE
def test_a_setting_opens_the_api_to_an_origin(
    make_app: MakeApp, origin: str, allowed: str | None
) -> None:
    """CORS_ORIGINS lets scripts of those origins read answers, errors too, and of no other."""
    client = make_app(CORS_ORIGINS=[ORIGIN]).test_client()
    answer = client.get("/api/v1/movies/top/", headers={"Origin": origin})
    assert answer.status_code == 401
    assert answer.headers.get("Access-Control-Allow-Origin") == allowed


def test_a_browser_is_told_that_it_may_send_a_token(make_app: MakeApp) -> None:
    """The preflight of an allowed origin allows the method and the headers of a request."""
    client = make_app(CORS_ORIGINS=[ORIGIN]).test_client()
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    headers = client.options("/api/v1/movies/ratings/1", headers=asked).headers
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PUT" in headers["Access-Control-Allow-Methods"]
    assert "authorization" in headers["Access-Control-Allow-Headers"].lower()
    assert "Access-Control-Allow-Credentials" not in headers


def test_pages_and_probes_stay_closed(make_app: MakeApp) -> None:
    """CORS_ORIGINS opens the API and nothing beside it."""
    client = make_app(CORS_ORIGINS=[ORIGIN]).test_client()
    answer = client.get("/metrics", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("offered", ["abc-123_x.y", "a" * 64])
def test_a_request_id_that_is_offered_is_taken(client: FlaskClient, offered: str) -> None:
    """A proxy's id comes back, so that its logs and ours can be joined."""
    answer = client.get("/health/live", headers={"X-Request-ID": offered})
    assert answer.headers["X-Request-ID"] == offered


@pytest.mark.parametrize("offered", ["", "a b", "x" * 65, "a\u00e9", 'a"b', "a{b}"])
@ONE_DATABASE
def test_a_request_id_that_could_do_harm_is_replaced(client: FlaskClient, offered: str) -> None:
    """An id that isn't a short word is replaced by one of ours."""
    answer = client.get("/health/live", headers={"X-Request-ID": offered})
    assert len(answer.headers["X-Request-ID"]) == 32


def test_every_request_has_its_own_id(client: FlaskClient) -> None:
    """Ids that we make are never the same."""
    ids = {client.get("/health/live").headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5


def test_a_log_line_is_one_line_with_the_request_id(capfd: pytest.CaptureFixture[str]) -> None:
    """What clients send is escaped in the log, so that no line can be forged."""
    from movies.logs import begin_request

    configure_logging()
    [handler] = logging.getLogger("movies").handlers
    record = logging.makeLogRecord({"msg": 'x\n{"level": "CRITICAL"}', "levelname": "INFO"})
    begin_request("the-id")
    assert isinstance(handler.filters[0], _RequestId)
    handler.filter(record)
    line = handler.format(record)
    assert "\n" not in line
    assert json.loads(line)["request_id"] == "the-id"
