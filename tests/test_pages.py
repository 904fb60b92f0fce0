"""The OpenAPI document and the documentation pages."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from movies import create_app
from movies.api import Access

PAGES = ("/api/schema/swagger-ui/", "/api/schema/redoc/")
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def described(
    settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Flask, dict[str, Any]]:
    """An application and its OpenAPI document."""
    app = create_app("testing", {**settings, "INSTANCE_DIR": tmp_path_factory.mktemp("pages")})
    app.extensions["november7"].close()
    document: dict[str, Any] = app.test_client().get("/api/schema/").get_json()
    return app, document


@pytest.fixture
def document(described: tuple[Flask, dict[str, Any]]) -> dict[str, Any]:
    """The OpenAPI document."""
    return described[1]


@pytest.fixture
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation of the document, by method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    """The document is what it says that it is."""
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_every_endpoint_is_in_the_document(
    described: tuple[Flask, dict[str, Any]], operations: dict[str, dict[str, Any]]
) -> None:
    """Each method and path of the API is described, and nothing that there isn't."""
    app, _ = described
    braced = r"{\1}"
    rules = {
        f"{method} {re.sub('<[a-z]+:([a-z_]+)>', braced, rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/v1/")
    }
    assert set(operations) == rules


def test_every_operation_is_described(operations: dict[str, dict[str, Any]]) -> None:
    """Each has a summary, a description, a tag, and an id that no other has."""
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(ids) == len(set(ids))


def test_every_body_has_an_example(operations: dict[str, dict[str, Any]]) -> None:
    """Each request body and each answer that has one comes with an example."""
    for name, operation in operations.items():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        bodies += [answer for answer in operation["responses"].values() if "content" in answer]
        for body in bodies:
            for content in body["content"].values():
                assert {"example", "examples"} & set(content), name


def test_every_operation_says_how_it_succeeds_and_fails(
    operations: dict[str, dict[str, Any]],
) -> None:
    """Each has an answer of success, and every error of it is a described problem."""
    for name, operation in operations.items():
        statuses = set(operation["responses"])
        assert statuses & {"200", "201", "204"}, name
        assert {"422", "429", "503"} <= statuses, name
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert set(answer["content"]) == {"application/problem+json"}, (name, status)


def test_every_422_example_names_members_of_its_operation(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    """Operations without members show an unknown parameter."""
    for name, operation in operations.items():
        schemas = document["components"]["schemas"]
        members = {parameter["name"] for parameter in operation.get("parameters", [])}
        for content in operation.get("requestBody", {}).get("content", {}).values():
            members |= set(schemas[content["schema"]["$ref"].rpartition("/")[2]]["properties"])
        examples = operation["responses"]["422"]["content"]["application/problem+json"]["examples"]
        errors = examples["invalid-request"]["value"]["errors"]
        assert set(errors) <= (members or {"unknown"}), name
        assert errors, name


def test_bearer_tokens_are_asked_for_where_a_user_is(
    described: tuple[Flask, dict[str, Any]], operations: dict[str, dict[str, Any]]
) -> None:
    """The security of an operation is that of its endpoint, and with it goes 401."""
    app, document = described
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    by_id = {operation["operationId"]: operation for operation in operations.values()}
    assert len(by_id) == 20
    for name, operation in by_id.items():
        view: Any = app.view_functions[f"{operation['tags'][0]}.{name}"]
        is_for_users = view.access is Access.USER
        assert operation["security"] == ([{"bearer": []}] if is_for_users else []), name
        assert not is_for_users or "401" in operation["responses"], name


def test_the_document_names_no_machine(document: dict[str, Any]) -> None:
    """The server is wherever the document was read from."""
    assert document["servers"] == [{"url": "/"}]


def test_a_browser_is_sent_to_the_docs(client: FlaskClient) -> None:
    """`/` redirects to Swagger UI."""
    answer = client.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/api/schema/swagger-ui/")


@pytest.mark.parametrize("path", PAGES)
@ONE_DATABASE
def test_a_page_loads_only_what_is_here(client: FlaskClient, path: str) -> None:
    """Every script, style and link of a page is of this host and answers 200."""
    page = client.get(path)
    links = re.findall(r'(?:src|href|data-schema|spec-url)="([^"]*)"', page.text)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert len(links) >= 3
    for link in links:
        assert link.startswith(("/api/schema/", "data:")), link
        if link.startswith("/"):
            with client.get(link) as loaded:
                assert (loaded.status_code, len(loaded.data) > 0) == (200, True), link


@pytest.mark.parametrize("path", PAGES)
def test_a_page_holds_no_script_of_its_own(client: FlaskClient, path: str) -> None:
    """The policy of the pages forbids inline scripts, so there is none."""
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", client.get(path).text, re.DOTALL)
    assert scripts
    assert all("src=" in attributes and not body for attributes, body in scripts)


@pytest.mark.parametrize(
    ("name", "mimetype"),
    [
        ("swagger-ui.css", "text/css"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("swagger-ui-start.js", "text/javascript"),
        ("redoc.js", "text/javascript"),
        ("redoc.css", "text/css"),
    ],
)
@ONE_DATABASE
def test_an_asset_is_what_nosniff_wants(client: FlaskClient, name: str, mimetype: str) -> None:
    """Scripts and styles have their types, without which browsers refuse them, and may be kept."""
    with client.get(f"/api/schema/assets/{name}") as answer:
        assert (answer.status_code, answer.mimetype) == (200, mimetype)
        assert "max-age=3600" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("name", ["", "x.js", "..", "../pages.py", "..%2fpages.py", "%00", ".git"])
@ONE_DATABASE
def test_there_are_no_other_assets(client: FlaskClient, name: str) -> None:
    """No path leads out of the directory of assets."""
    answer = client.get(f"/api/schema/assets/{name}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    "path",
    [
        *("/api/schema", "/api/schema/swagger-ui", "/api/schema/redoc"),
        *("/health/live", "/health/ready", "/metrics"),
    ],
)
@ONE_DATABASE
def test_pages_and_probes_have_both_spellings(client: FlaskClient, path: str, slash: str) -> None:
    """Each answers with and without the trailing slash, and nobody has to be signed in."""
    assert client.get(path + slash).status_code == 200
