"""Absolute URLs: what links, `Location` and page assets are made from."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from accounts import Accounts
from flask import Flask
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app

from movies.urls import BASE_URL, normalize_host, page_url

MakeApp = Callable[..., Flask]
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
SEARCH = "/api/v1/movies/?query=e&page_size=1"


def search(app: Flask, **options: Any) -> TestResponse:
    """A page of movies that has a next one."""
    client = app.test_client()
    headers: dict[str, str] = Accounts(client).headers() | options.pop("headers", {})
    return client.get(options.pop("path", SEARCH), headers=headers, **options)


@pytest.mark.parametrize(
    ("scheme", "host", "expected"),
    [
        ("http", "localhost", "localhost"),
        ("http", "localhost:8000", "localhost:8000"),
        ("http", "Movies.Example.COM:80", "movies.example.com"),
        ("https", "movies.example.com:443", "movies.example.com"),
        ("http", "movies.example.com:443", "movies.example.com:443"),
        ("http", "movies.example.com:", "movies.example.com"),
        ("http", "movies.example.com.", "movies.example.com."),
        ("http", "movies_api:8000", "movies_api:8000"),
        ("http", "127.0.0.1:8000", "127.0.0.1:8000"),
        ("http", "[::1]:8000", "[::1]:8000"),
        ("http", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("http", "Bücher.example:8000".encode().decode("latin-1"), "xn--bcher-kva.example:8000"),
        ("http", "straße.example".encode().decode("latin-1"), "xn--strae-oqa.example"),
        *(
            ("http", host, "")
            for host in (
                *("", " ", "a b", "a/b", "a?b", "a#b", "a@b", "a,b", "a\\b", "<a>", "a%41", ".a"),
                *("a..b", ":80", "a:b", "a:0", "a:65536", "a:999999", "a:-1", "[::1", "[:::1]"),
                *("[1]", "x" * 64, ".".join(["x" * 60] * 5), "\xff", "\xc3\xbf\xff", "a\n", "\0"),
            )
        ),
    ],
)
def test_a_host_is_normalized_or_refused(scheme: str, host: str, expected: str) -> None:
    assert normalize_host(scheme, host) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("movies_api:8000", "http://movies_api:8000"),
        ("xn--bcher-kva.example", "http://xn--bcher-kva.example"),
        ("Bücher.example".encode().decode("latin-1"), "http://xn--bcher-kva.example"),
        ("localhost:80", "http://localhost"),
    ],
)
@ONE_DATABASE
def test_links_and_location_name_the_requested_host(app: Flask, host: str, expected: str) -> None:
    client = app.test_client()
    headers = Accounts(client).headers()
    options: dict[str, Any] = {"headers": headers, "environ_overrides": {"HTTP_HOST": host}}
    page = client.get(SEARCH, **options).get_json()
    new = {"movie_id": page["results"][0]["id"], "rating_type": "UPVOTE"}
    created = client.post("/api/v1/movies/ratings/", json=new, **options)
    missing = client.get("/api/v1/movies/?query=e&page=1000", **options).get_json()
    assert page["next"] == f"{expected}/api/v1/movies/?query=e&page_size=1&page=2"
    assert created.headers["Location"] == f"{expected}/api/v1/movies/ratings/1"
    assert missing["type"] == f"{expected}/api/schema/problems/#page-past-the-end"


@ONE_DATABASE
def test_a_bad_host_is_400_on_every_path(app: Flask) -> None:
    client = app.test_client()
    for path in ("/", "/api/v1/movies/", "/health/live", "/nothing", "/api/schema/"):
        for method in ("GET", "POST", "OPTIONS"):
            overrides = {"HTTP_HOST": "a b"}
            answer = client.open(path, method=method, environ_overrides=overrides)
            problem = answer.get_json()
            assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
            assert problem["type"] == "/api/schema/problems/#invalid-host"


@ONE_DATABASE
def test_links_keep_every_parameter_encoded(app: Flask) -> None:
    path = "/api/v1/movies/?page_size=1&query=e%20%26%20%C3%A9%2B%23"
    options = {"path": "/api/v1/movies?page_size=1&page=1&query=+%65%20"}
    assert (
        search(app, **options)
        .get_json()["next"]
        .endswith("/api/v1/movies/?page_size=1&page=2&query=+e+")
    )
    with app.test_request_context(path, environ_overrides={BASE_URL: "http://localhost"}):
        expected = "?page_size=1&query=e+%26+%C3%A9%2B%23&page=2"
        assert page_url(2) == f"http://localhost/api/v1/movies/{expected}"


FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "8443",
    "X-Forwarded-Prefix": "/base",
}


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, FORWARDED, "http://localhost/api/"),
        (1, FORWARDED, "https://localhost:8443/base/api/"),
        (1, {"X-Forwarded-Proto": "https"}, "https://localhost/api/"),
        (1, {"X-Forwarded-Proto": "HTTPS"}, "https://localhost/api/"),
        (1, {"X-Forwarded-Host": "evil.example"}, "http://localhost/api/"),
        (1, {"X-Forwarded-Proto": "javascript"}, "http://localhost/api/"),
        (1, {"X-Forwarded-Prefix": "//evil.example"}, "http://localhost/api/"),
        (1, {"X-Forwarded-Prefix": "/../x"}, "http://localhost/api/"),
        (1, {"X-Forwarded-Prefix": "/base/"}, "http://localhost/base/api/"),
        (2, {"X-Forwarded-Proto": "http, https, http"}, "https://localhost/api/"),
    ],
)
@ONE_DATABASE
def test_a_trusted_proxy_sets_scheme_port_and_prefix_but_not_the_host(
    make_app: MakeApp, proxies: int, forwarded: dict[str, str], expected: str
) -> None:
    page = search(make_app(TRUSTED_PROXIES=proxies), headers=forwarded)
    assert page.get_json()["next"].startswith(expected)


@ONE_DATABASE
def test_page_assets_follow_a_forwarded_prefix(make_app: MakeApp) -> None:
    client = make_app(TRUSTED_PROXIES=1).test_client()
    page = client.get("/api/schema/redoc/", headers={"X-Forwarded-Prefix": "/base"}).text
    home = client.get("/", headers={"X-Forwarded-Prefix": "/base"})
    assert 'src="/base/api/schema/assets/' in page
    assert 'src="/api/' not in page
    assert home.headers["Location"].startswith("/base/api/schema/")


@pytest.mark.parametrize("host", ["localhost", "movies_api:8000", "evil.example"])
@ONE_DATABASE
def test_the_public_url_is_used_whatever_the_request_says(make_app: MakeApp, host: str) -> None:
    app = make_app(PUBLIC_URL="https://movies.example.com/base/", TRUSTED_PROXIES=1)
    client = app.test_client()
    options: dict[str, Any] = {
        "headers": Accounts(client).headers() | FORWARDED,
        "environ_overrides": {"HTTP_HOST": host},
    }
    page = client.get(SEARCH, **options).get_json()
    new = {"movie_id": page["results"][0]["id"], "rating_type": "UPVOTE"}
    created = client.post("/api/v1/movies/ratings/", json=new, **options)
    html = client.get("/api/schema/redoc/", **options).text
    base = "https://movies.example.com/base/api"
    assert page["next"].startswith(f"{base}/v1/movies/?")
    assert created.headers["Location"] == f"{base}/v1/movies/ratings/1"
    assert client.get("/nothing", **options).get_json()["type"] == "about:blank"
    assert 'src="/base/api/schema/assets/' in html


@pytest.mark.parametrize(
    ("server", "expected"),
    [("127.0.0.1", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000")],
)
@ONE_DATABASE
def test_http_1_0_without_a_host_is_linked_by_the_servers_address(
    app: Flask, server: str, expected: str
) -> None:
    """Probes of load balancers send such requests."""
    headers = Headers(Accounts(app.test_client()).headers())
    environ = EnvironBuilder(SEARCH, headers=headers).get_environ()
    del environ["HTTP_HOST"]
    environ |= {"SERVER_PROTOCOL": "HTTP/1.0", "SERVER_NAME": server, "SERVER_PORT": "8000"}
    body, _, _ = run_wsgi_app(app, environ)
    assert json.loads(b"".join(body))["next"].startswith(f"{expected}/api/v1/movies/?")
