"""Response headers for browsers and proxies, CORS, and request ids."""

from collections.abc import Callable
from typing import Any

import pytest
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient

PAGES = ("/api/schema/swagger-ui/", "/api/schema/redoc/")
NOT_PAGES = ("/api/schema/", "/api/v1/users/me/", "/nothing", "/health/live", "/metrics")
ORIGIN = "https://app.example"
MakeApp = Callable[..., Flask]
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize("path", [*PAGES, *NOT_PAGES, "/"])
@ONE_DATABASE
def test_every_response_has_security_headers(client: FlaskClient, path: str) -> None:
    """Errors and redirects, too."""
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Server" not in headers


@pytest.mark.parametrize("path", NOT_PAGES)
@ONE_DATABASE
def test_a_response_that_is_not_a_page_may_load_nothing(client: FlaskClient, path: str) -> None:
    policy = client.get(path).headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("path", PAGES)
def test_pages_run_only_scripts_of_this_host(client: FlaskClient, path: str) -> None:
    policy = client.get(path).headers["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert directives["connect-src"] == "'self'"
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize(("name", "expected"), [("production", True), ("testing", False)])
def test_only_production_requires_https(make_app: MakeApp, name: str, expected: bool) -> None:
    from config import CONFIGS

    app = make_app(HSTS=CONFIGS[name].HSTS)
    assert ("Strict-Transport-Security" in app.test_client().get("/").headers) is expected


@ONE_DATABASE
def test_no_other_origin_may_call_the_api_by_default(client: FlaskClient) -> None:
    answer = client.get("/api/v1/movies/top/", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        *(("https://app.example", True), ("http://[::1]:3000", True)),
        *(("https://evil.example", False), ("null", False), ("https://app.example.evil", False)),
        *(("https://app-example", False), ("http://app.example", False)),
        *(
            ("https://app.example:444", False),
            ("http://:3000", False),
            ("https://app.example/", False),
        ),
    ],
)
@pytest.mark.parametrize("others", [[], ["https://other.example"]])
@ONE_DATABASE
def test_exactly_the_allowed_origins_may_read_responses(
    make_app: MakeApp, origin: str, allowed: bool, others: list[str]
) -> None:
    """Errors, too; and caches keep the responses to different origins apart."""
    app = make_app(CORS_ORIGINS=["https://app.example", "http://[::1]:3000", *others])
    client = app.test_client()
    for path, status in (("/api/v1/movies/top/", 401), ("/api/v1/nothing", 404)):
        answer = client.get(path, headers={"Origin": origin})
        assert answer.status_code == status
        assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
        assert "Origin" in answer.headers["Vary"]
        assert "Origin" in client.get(path).headers["Vary"]


@ONE_DATABASE
def test_scripts_of_allowed_origins_may_read_every_error(make_app: MakeApp) -> None:
    """A page that cannot read a 429 or 503 cannot wait for as long as it says."""
    app = make_app(
        CORS_ORIGINS=[ORIGIN],
        RATELIMIT_ENABLED=True,
        DATABASE_URL="postgresql://postgres@127.0.0.1:1/nothing",
    )

    @app.get("/api/v1/bug/")
    def bug() -> str:
        raise KeyError

    client = app.test_client()
    account = {"email": "ada@example.com", "password": "x"}
    seen = {}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/api/v1/auth/token/", {"data": b"x" * 2**21, "content_type": "application/json"}),
        ("/api/v1/auth/token/", {"data": b"{", "content_type": "application/json"}),
        ("/api/v1/auth/token/", {"data": b"{", "content_type": "text/plain"}),
        *(("/api/v1/auth/token/", {"json": account}) for _ in range(30)),
        ("/api/v1/bug/", {"method": "GET"}),
        ("/api/v1/users/me/", {"method": "GET"}),
        ("/api/v1/users/me/", {"method": "PUT"}),
    ]
    for path, options in requests:
        answer = client.open(path, headers={"Origin": ORIGIN}, **{"method": "POST", **options})
        seen[answer.status_code] = answer.headers.get("Access-Control-Allow-Origin")
    assert seen == dict.fromkeys((413, 400, 415, 503, 429, 500, 401, 405), ORIGIN)


@ONE_DATABASE
def test_scripts_may_read_the_headers_of_the_contract(make_app: MakeApp) -> None:
    client = make_app(CORS_ORIGINS=[ORIGIN]).test_client()
    headers = {**Accounts(client).headers(), "Origin": ORIGIN}
    answer = client.get("/api/v1/movies/?query=matrix", headers=headers)
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    always_readable = {"Content-Type", "Content-Length", "Cache-Control"}
    for_browsers = {"Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "Vary"}
    sent = {name for name, _ in answer.headers if not name.startswith("Access-Control-")}
    assert sent - always_readable - for_browsers <= exposed
    assert {"ETag", "Retry-After", "RateLimit", "WWW-Authenticate", "Location"} <= exposed
    known = client.get(
        "/api/v1/movies/?query=matrix",
        headers=headers | {"If-None-Match": answer.headers["ETag"]},
    )
    assert known.status_code == 304
    assert known.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@ONE_DATABASE
def test_a_preflight_allows_methods_and_request_headers(make_app: MakeApp, method: str) -> None:
    client = make_app(CORS_ORIGINS=[ORIGIN]).test_client()
    sent = (
        "authorization, cache-control, content-type, if-none-match, prefer, traceparent, "
        "x-request-id"
    )
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": f"{sent}, x-evil",
    }
    answer = client.options("/api/v1/movies/ratings/1", headers=asked)
    headers = answer.headers
    assert (answer.status_code, answer.data) == (204, b"")
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert method in headers["Access-Control-Allow-Methods"].split(", ")
    assert headers["Access-Control-Allow-Headers"].lower() == sent
    assert headers["Access-Control-Max-Age"] == "7200"
    assert "Access-Control-Allow-Credentials" not in headers


@ONE_DATABASE
def test_any_origin_may_read_the_document_and_no_page_or_probe(make_app: MakeApp) -> None:
    client = make_app(CORS_ORIGINS=[ORIGIN]).test_client()
    for path in ("/api/schema", "/api/schema/", "/api/schema/openapi.json"):
        answer = client.get(path, headers={"Origin": "https://anyone.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    for path in ("/metrics", "/health/live", *PAGES):
        answer = client.get(path, headers={"Origin": ORIGIN})
        assert "Access-Control-Allow-Origin" not in answer.headers


@ONE_DATABASE
def test_options_lists_methods_and_patch_types_and_has_no_body(client: FlaskClient) -> None:
    answer = client.options("/api/v1/users/me")
    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert set(answer.headers["Allow"].split(", ")) == {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH"}
    assert answer.headers["Accept-Patch"] == "application/json, application/merge-patch+json"
    assert "Accept-Patch" not in client.options("/api/v1/movies/").headers


@pytest.mark.parametrize("offered", ["abc-123_x.y", "a" * 64])
def test_a_request_id_of_a_proxy_is_used(client: FlaskClient, offered: str) -> None:
    answer = client.get("/health/live", headers={"X-Request-ID": offered})
    assert answer.headers["X-Request-ID"] == offered


@pytest.mark.parametrize("offered", ["", "a b", "x" * 65, "a\u00e9", 'a"b', "a{b}"])
@ONE_DATABASE
def test_a_malformed_request_id_is_replaced(client: FlaskClient, offered: str) -> None:
    answer = client.get("/health/live", headers={"X-Request-ID": offered})
    assert len(answer.headers["X-Request-ID"]) == 32


def test_every_request_has_its_own_id(client: FlaskClient) -> None:
    ids = {client.get("/health/live").headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5
