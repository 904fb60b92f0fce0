"""The OpenAPI document."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from helpers import operations_of

from config import Config
from movies import create_app, openapi
from movies.api import Access
from movies.errors import PROBLEMS
from movies.extensions import api
from movies.openapi import OperationPlugin
from movies.problems import EXAMPLE_URL


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
    return operations_of(document)


@pytest.mark.slow
def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator  # takes long to import

    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_every_endpoint_is_in_the_document(
    described: tuple[Flask, dict[str, Any]], operations: dict[str, dict[str, Any]]
) -> None:
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
    """With a summary, a description, a tag and a unique id."""
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(ids) == len(set(ids))


def test_every_body_has_an_example(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        bodies += [answer for answer in operation["responses"].values() if "content" in answer]
        for body in bodies:
            for content in body["content"].values():
                assert {"example", "examples"} & set(content), name


def test_every_operation_documents_success_and_problems(
    operations: dict[str, dict[str, Any]],
) -> None:
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


def test_endpoints_for_users_document_the_token_and_401(
    described: tuple[Flask, dict[str, Any]], operations: dict[str, dict[str, Any]]
) -> None:
    app, document = described
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    views = {endpoint.rpartition(".")[2]: view for endpoint, view in app.view_functions.items()}
    by_id = {operation["operationId"]: operation for operation in operations.values()}
    assert len(by_id) == len(operations)
    for name, operation in by_id.items():
        view: Any = views[name]
        is_for_users = view.access is Access.USER
        assert operation["security"] == ([{"bearer": []}] if is_for_users else []), name
        assert not is_for_users or "401" in operation["responses"], name


def test_the_document_is_about_the_service_it_was_read_from(client: FlaskClient) -> None:
    document = client.get("/api/schema/", base_url="https://movies.test/").text
    assert '"url": "https://movies.test"' in document
    assert EXAMPLE_URL not in document


def test_the_committed_document_is_current(settings: dict[str, Any], tmp_path: Path) -> None:
    """Every change of the contract shows in review. `make openapi` writes the file."""
    quoted = re.findall(r"\{([A-Z0-9_]+)\}", openapi.MANUAL.read_text() + openapi.BEARER)
    defaults = {name: getattr(Config, name) for name in quoted}
    app = create_app("testing", {**settings, **defaults, "INSTANCE_DIR": tmp_path})
    app.extensions["november7"].close()
    committed = Path(__file__).parents[1] / "docs/openapi.json"
    assert committed.read_bytes() == openapi.document(api) + b"\n"


def test_the_downloaded_document_is_the_same(client: FlaskClient) -> None:
    download = client.get("/api/schema/openapi.json")
    assert download.data == client.get("/api/schema/").data
    assert "openapi.json" in download.headers["Content-Disposition"]


def test_requests_are_closed_and_responses_open(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    """So a new member of a response breaks no client."""
    requests = {
        content["schema"]["$ref"].rpartition("/")[2]
        for operation in operations.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    }
    for name, schema in document["components"]["schemas"].items():
        closed = schema.get("additionalProperties")
        assert closed is (False if name in requests else None), name


def test_tags_have_one_name(document: dict[str, Any]) -> None:
    """ReDoc shows `x-displayName`, all others the name."""
    for tag in document["tags"]:
        assert tag["x-displayName"] == tag["name"].capitalize()


def test_every_component_is_used(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for kind in ("schemas", "responses", "headers", "parameters"):
        for name in document["components"].get(kind, {}):
            assert f'"#/components/{kind}/{name}"' in text, name
    assert not {"Error", "PaginationMetadata"} & set(document["components"]["schemas"])


def test_members_have_types_that_generators_understand(document: dict[str, Any]) -> None:
    """64 bits for ids, no negative counts, one name for rating types, no default in bodies."""
    schemas = document["components"]["schemas"]
    assert schemas["RatingType"]["enum"] == ["UPVOTE", "DOWNVOTE"]
    errors = schemas["Problem"]["properties"]["errors"]["additionalProperties"]
    assert errors == {"type": "array", "items": {"type": "string"}}
    for name, schema in schemas.items():
        for member, described in schema.get("properties", {}).items():
            where = (name, member)
            if described.get("type") == "integer" and member.endswith("id"):
                assert (described["format"], described["minimum"]) == ("int64", 1), where
            if member in ("count", "upvotes", "downvotes"):
                assert described["minimum"] == 0, where
            if member == "rating_type":
                assert described["$ref"] == "#/components/schemas/RatingType", where
            if "pattern" in described:
                assert re.fullmatch(r"[\w^$\[\]\\*.+-]+", described["pattern"]), where
                assert r"\u" not in described["pattern"], where
            assert "default" not in described, where
            assert "writeOnly" not in described, where


def test_bodies_are_named_after_their_resource_and_use(
    operations: dict[str, dict[str, Any]],
) -> None:
    """Names such as NewRating collide with constructors in generated clients."""
    suffixes = {"POST": "Create", "PUT": "Update", "PATCH": "Update"}
    for name, operation in operations.items():
        method, path = name.split(" ")
        if "requestBody" in operation and path.startswith("/api/v1/movies/"):
            schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            assert schema.endswith(suffixes[method]), name


def test_patch_documents_merge_patch(operations: dict[str, dict[str, Any]]) -> None:
    patches = [operation for name, operation in operations.items() if name.startswith("PATCH")]
    assert len(patches) == 2
    for operation in patches:
        types = {"application/json", "application/merge-patch+json"}
        assert set(operation["requestBody"]["content"]) == types


def test_every_problem_is_documented_where_it_occurs(
    operations: dict[str, dict[str, Any]],
) -> None:
    """Two kinds are about HTTP itself and can occur everywhere."""
    documented = {
        slug
        for operation in operations.values()
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for slug in response["content"]["application/problem+json"]["examples"]
    }
    everywhere = {"invalid-host", "bad-request"}
    slugs = {problem.slug for problem in PROBLEMS.values() if problem.slug}
    assert documented - {"about:blank"} == slugs - everywhere


def test_an_endpoint_cannot_raise_what_the_table_does_not_know() -> None:
    operation: dict[str, Any] = {"raises": (KeyError,), "responses": {}}
    with pytest.raises(LookupError, match="KeyError has no row"):
        OperationPlugin().operation_helper(path="/x/", operations={"get": operation})
