"""The documentation pages and their assets."""

import hashlib
import json
import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape

from movies.errors import PROBLEMS
from movies.openapi import in_words
from movies.pages import ASSETS, VENDORED

PAGES = ("/api/schema/swagger-ui/", "/api/schema/redoc/", "/api/schema/problems/")
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_the_list_of_problems_has_every_problem(client: FlaskClient) -> None:
    page = client.get("/api/schema/problems/").text
    for problem in PROBLEMS.values():
        if problem.slug:
            assert page.count(f'id="{problem.slug}"') == 1


def test_the_list_of_problems_says_what_to_do_about_each(client: FlaskClient) -> None:
    """In the overview and in the entry."""
    cells = re.sub("</?code>", "", client.get("/api/schema/problems/").text)
    for problem in PROBLEMS.values():
        if problem.slug:
            advice = str(escape(problem.advice.replace("`", "")))
            row, entry = cells.split(f'href="#{problem.slug}"')[1:]
            assert advice in row.partition("</tr>")[0], problem.slug
            assert advice in entry.partition("</section>")[0], problem.slug


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2592000, "30 days"),
        (86400, "1 day"),
        (7200, "2 hours"),
        (900, "15 minutes"),
        (90, "90 seconds"),
        (1, "1 second"),
        (0.5, "0.5 seconds"),
        (315359999, "315,359,999 seconds"),
    ],
)
def test_a_duration_is_written_in_its_largest_unit(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_the_pages_quote_the_settings(make_app: Callable[..., Flask]) -> None:
    tokens = {"JWT_ACCESS_TOKEN_EXPIRES": 120, "JWT_REFRESH_TOKEN_EXPIRES": 172800}
    cache = {"NOVEMBER7_TTL": 1800, "NOVEMBER7_STALE": 7200, "NOVEMBER7_DEADLINE": 7.5}
    client = make_app(**tokens, **cache).test_client()
    document = client.get("/api/schema/").get_json()
    guide = document["info"]["description"]
    for words in (
        *("| access | 2 minutes (", "| refresh | 2 days |"),
        *("fresh for 30 minutes", "stale for 2 hours", "up to 7.5 seconds"),
    ):
        assert words in guide
    assert not re.search(r"\{[A-Z]", guide)
    bearer = document["components"]["securitySchemes"]["bearer"]
    assert "valid for 2 minutes" in bearer["description"]
    assert "valid for 2 minutes" in client.get("/api/schema/swagger-ui/").text


def test_the_root_redirects_to_the_reference(client: FlaskClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/api/schema/redoc/")


def test_vendored_assets_are_those_that_were_downloaded() -> None:
    """Their hashes and versions are those in `vendor.json`."""
    sums = (VENDORED / "SHA256SUMS").read_text().splitlines()
    hashes = {name: hash_ for hash_, name in (line.split() for line in sums)}
    assert {path.name for path in VENDORED.iterdir()} == {*hashes, "SHA256SUMS"}
    for name, hash_ in hashes.items():
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == hash_, name
    declared = json.loads((ASSETS / "vendor.json").read_text()).values()
    assert {package["version"] for package in declared} == {
        re.findall(r"-([0-9.]+[0-9])\.", name)[0] for name in hashes
    }


@pytest.mark.parametrize("path", PAGES)
@ONE_DATABASE
def test_a_page_loads_only_files_of_this_host(client: FlaskClient, path: str) -> None:
    page = client.get(path)
    links = re.findall(r'(?:src|href|data-schema|spec-url)="([^"]*)"', page.text)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert len(links) >= 3
    for link in links:
        assert link.startswith(("/api/schema/", "data:", "#")), link
        if link.startswith("/"):
            with client.get(link) as loaded:
                assert (loaded.status_code, len(loaded.data) > 0) == (200, True), link


@pytest.mark.parametrize("path", PAGES)
def test_pages_have_no_inline_scripts(client: FlaskClient, path: str) -> None:
    """Their Content-Security-Policy forbids them."""
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", client.get(path).text, re.DOTALL)
    assert all("src=" in attributes and not body for attributes, body in scripts)


@pytest.mark.parametrize(
    ("name", "mimetype"),
    [
        ("pages.css", "text/css"),
        ("swagger-ui-start.js", "text/javascript"),
        ("redoc-start.js", "text/javascript"),
    ],
)
@ONE_DATABASE
def test_an_asset_has_its_media_type(client: FlaskClient, name: str, mimetype: str) -> None:
    """Otherwise browsers would refuse it, because of `nosniff`."""
    with client.get(f"/api/schema/assets/{name}") as answer:
        assert (answer.status_code, answer.mimetype) == (200, mimetype)
        assert "max-age=3600" in answer.headers["Cache-Control"]


@ONE_DATABASE
def test_a_vendored_asset_can_be_cached_for_a_year(client: FlaskClient) -> None:
    page = client.get("/api/schema/redoc/").text
    (url,) = re.findall(r'src="([^"]*/redoc-[0-9.]+\.js)"', page)
    with client.get(url) as answer:
        assert (answer.status_code, answer.mimetype) == (200, "text/javascript")
        assert {"public", "immutable"} <= set(answer.headers["Cache-Control"].split(", "))


@pytest.mark.parametrize("name", ["", "x.js", "..", "../pages.py", "..%2fpages.py", "%00", ".git"])
@ONE_DATABASE
def test_there_are_no_other_assets(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/api/schema/assets/{name}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    "path",
    [
        *("/api/schema", "/api/schema/swagger-ui", "/api/schema/redoc"),
        *("/api/schema/problems", "/api/schema/openapi.json"),
        *("/health/live", "/health/ready", "/metrics"),
    ],
)
@ONE_DATABASE
def test_pages_and_probes_work_with_and_without_the_trailing_slash(
    client: FlaskClient, path: str, slash: str
) -> None:
    assert client.get(path + slash).status_code == 200
