"""Schemathesis tests of the OpenAPI document, on SQLite.

All phases run: examples, boundaries of the schemas, random requests, and sequences of requests.
`SCHEMATHESIS_EXAMPLES` is the number of random requests per operation: by default 15, and 50 with
`CI` set. Equal numbers send equal requests.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from accounts import Accounts
from applications import close, empty
from flask import Flask
from flask.testing import FlaskClient
from schemathesis import APIOperation, AuthContext, Case
from schemathesis.engine import Status, events, from_schema
from schemathesis.schemas import BaseSchema
from schemathesis.transport.wsgi import WSGITransport

from movies import create_app
from movies.users.schemas import UserCreateSchema

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES") or (50 if os.environ.get("CI") else 15))
# All operations get all checks, with two exceptions. No JSON Schema can express that a password is
# easy to guess, so valid data may be 422 if it contains a new password. And a rating may disappear
# without a DELETE of its own URL, because it can also be cleared at the URL of its movie, which the
# check does not know.
CHOOSES_PASSWORD = {
    "checks": {
        "positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "409", "422"]}
    }
}
CONFIG = {
    "seed": 7,
    "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
    "operations": [
        {"include-operation-id": "register", **CHOOSES_PASSWORD},
        {"include-operation-id": "change_password", **CHOOSES_PASSWORD},
        {
            "include-path": "/api/v1/movies/ratings/{rating_id}",
            "checks": {"ensure_resource_availability": {"enabled": False}},
        },
    ],
}
pytestmark = pytest.mark.slow
AnyCase = Case[APIOperation[Any, Any, Any, Any]]
ENDS_ITS_TOKEN = {"delete_me", "change_password"}


class Visitor:
    """Provides tokens: those of one account, or of a new one if the request ends them."""

    accounts: Accounts
    token: str

    def get(self, case: AnyCase, _context: AuthContext) -> str:
        """A valid access token."""
        if operation_id(case) in ENDS_ITS_TOKEN:
            return new_tokens(self.accounts)["access"]
        return self.token

    def set(self, case: AnyCase, token: str, _context: AuthContext) -> None:
        """Add the token to the request."""
        case.headers["Authorization"] = f"Bearer {token}"


@dataclass
class Run:
    """The results of all requests."""

    phases: dict[str, Status] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    statuses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def record(self, event: events.EngineEvent) -> None:
        """Record an event of the engine."""
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.NonFatalError):
            self.failures.append(f"{event.label}: {event.value!r}")
        if isinstance(event, events.PhaseFinished):
            self.phases[event.phase.name.value] = event.status
        if isinstance(event, events.ScenarioFinished):
            self._note_scenario(event)

    def _note_scenario(self, event: events.ScenarioFinished) -> None:
        recorder = event.recorder
        for id_, interaction in recorder.interactions.items():
            case = recorder.cases[id_].value
            if interaction.response is not None and case.method != "OPTIONS":
                self.statuses[operation_id(case)].add(interaction.response.status_code)
        for id_, checks in recorder.checks.items():
            label = recorder.cases[id_].value.operation.label
            self.failures += [
                f"{label}: {check.name}: {failed.failure}\n{failed.code_sample}"
                for check in checks
                if (failed := check.failure_info) is not None
            ]


def operation_id(case: AnyCase) -> str:
    name: str = case.operation.definition.raw["operationId"]
    return name


def new_tokens(accounts: Accounts) -> dict[str, str]:
    """The tokens of a new account."""
    return accounts.sign_in(accounts.register()["email"])


def new_rating(client: FlaskClient, token: str) -> int:
    """The id of a new rating of the token's user."""
    headers = {"Authorization": f"Bearer {token}"}
    found = client.get("/api/v1/movies/?query=matrix", headers=headers).get_json()["results"]
    new = {"movie_id": found[0]["id"], "rating_type": "UPVOTE"}
    rated: int = client.post("/api/v1/movies/ratings/", json=new, headers=headers).get_json()["id"]
    return rated


@pytest.fixture(scope="module")
def app(
    settings: dict[str, Any], sqlite: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flask]:
    empty(sqlite)
    own = {"DATABASE_URL": sqlite, "INSTANCE_DIR": tmp_path_factory.mktemp("schemathesis")}
    app = create_app("testing", {**settings, **own})
    yield app
    close(app)


@pytest.fixture(scope="module")
def schema(app: Flask) -> BaseSchema:
    visitors = Accounts(app.test_client())
    visitors.register(UserCreateSchema.example["email"], UserCreateSchema.example["password"])
    document = app.test_client().get("/api/schema/").get_json()
    for name, member in (("refresh", "refresh"), ("verify", "token"), ("logout", "refresh")):
        body = document["paths"][f"/api/v1/auth/{name}/"]["post"]["requestBody"]
        good = {member: new_tokens(visitors)["refresh"]}  # instead of the example, which is invalid
        body["content"]["application/json"]["example"] = good
    access = new_tokens(visitors)["access"]
    rating = document["paths"]["/api/v1/movies/ratings/{rating_id}"]
    [rating_id] = [param for param in rating["parameters"] if param["name"] == "rating_id"]
    rating_id["example"] = new_rating(app.test_client(), access)
    config = schemathesis.Config.from_dict(CONFIG)
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.app = app

    @schema.auth(refresh_interval=None)
    class Guest(Visitor):
        accounts = visitors
        token = access

    return schema


@pytest.fixture(scope="module")
def run(schema: BaseSchema) -> Run:
    """All requests and their checks."""
    run = Run()
    send = WSGITransport.send

    def send_in_process(self: WSGITransport, case: AnyCase, **options: Any) -> Any:
        # Some checks of Schemathesis 4.32 pass on what only makes sense for a socket.
        for name in ("max_redirects", "verify", "cert"):
            options.pop(name, None)
        # Its transport asks for gzip and does not decompress.
        options["headers"] = {**(options.get("headers") or {}), "Accept-Encoding": "identity"}
        return send(self, case, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WSGITransport, "send", send_in_process)
        for event in from_schema(schema).execute():
            run.record(event)
    return run


def test_no_response_breaks_a_check(run: Run) -> None:
    assert run.failures == [], "\n\n".join(run.failures)


@pytest.mark.parametrize("phase", ["examples", "coverage", "fuzzing", "stateful"])
def test_each_phase_ran(run: Run, phase: str) -> None:
    assert run.phases[phase] is Status.SUCCESS


def test_every_operation_succeeded_at_least_once(run: Run, schema: BaseSchema) -> None:
    paths = schema.raw_schema["paths"].values()
    operations = [o for path in paths for o in path.values() if isinstance(o, dict)]
    names = {operation["operationId"] for operation in operations}
    assert {name for name in names if not {200, 201, 204} & run.statuses[name]} == set()
