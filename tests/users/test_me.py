"""The user's own account: reading it, changing names and password, and deleting it."""

from typing import Any

import pytest
from accounts import PASSWORD, Accounts
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from sqlalchemy import text
from tables import rows

from movies.auth import passwords
from movies.extensions import db
from movies.movies import tallies

ME = "/api/v1/users/me/"
PASSWORDS = f"{ME}password/"
ADA = "ada@example.com"
NEW_PASSWORD = "notes on the analytical engine"


@pytest.fixture
def headers(auth: Accounts) -> dict[str, str]:
    """The request headers of Ada, who is signed in."""
    return auth.headers(ADA)


def first_movie(client: FlaskClient, headers: dict[str, str]) -> dict[str, Any]:
    page = client.get("/api/v1/movies/", query_string={"query": "matrix"}, headers=headers)
    movie: dict[str, Any] = page.get_json()["results"][0]
    return movie


def vote(client: FlaskClient, headers: dict[str, str], movie_id: str, kind: str) -> None:
    path = f"/api/v1/movies/{movie_id}/rating/"
    assert client.put(path, json={"rating_type": kind}, headers=headers).status_code == 201


def test_a_user_can_read_the_account(client: FlaskClient, auth: Accounts) -> None:
    auth.register("eve@example.com")
    headers = auth.headers(ADA)
    user = {"id": 2, "email": ADA, "first_name": "", "last_name": ""}
    assert client.get(ME, headers=headers).get_json() == user


@pytest.mark.parametrize("member", ["first_name", "last_name"])
@pytest.mark.parametrize("name", ["Ada", "", "Æ 李 🦊", "Robert'); DROP TABLE users;--", " x "])
def test_a_user_can_change_the_names(
    client: FlaskClient, headers: dict[str, str], member: str, name: str
) -> None:
    before = client.get(ME, headers=headers).get_json()
    answer = client.patch(ME, json={member: name}, headers=headers)
    assert (answer.status_code, answer.get_json()) == (200, before | {member: name})
    assert client.get(ME, headers=headers).get_json() == before | {member: name}


def test_a_change_of_an_account_that_has_just_been_deleted_is_401(
    app: Flask, client: FlaskClient, headers: dict[str, str]
) -> None:
    client.get(ME, headers=headers)  # the token is believed for a moment
    with app.app_context():
        for table in ("sign_ins", "users"):
            db.session.execute(text(f"DELETE FROM {table}"))
        db.session.commit()
    answer = client.patch(ME, json={"first_name": "Augusta"}, headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize("member", ["id", "email"])
@pytest.mark.parametrize(
    "value", [7, "eve@example.com", None, [], {"a": {}}, "\ud800", "\0", 1e300]
)
def test_read_only_members_are_ignored_whatever_their_values(
    client: FlaskClient, headers: dict[str, str], member: str, value: Any
) -> None:
    before = client.get(ME, headers=headers).get_json()
    answer = client.patch(ME, json={member: value}, headers=headers)
    assert (answer.status_code, answer.get_json()) == (200, before)


def test_an_account_can_be_sent_back_as_received(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    user = client.get(ME, headers=headers).get_json()
    assert client.patch(ME, json=user, headers=headers).get_json() == user


@pytest.mark.parametrize(
    "change",
    [
        {"first_name": None},
        {"first_name": 7},
        {"last_name": "n" * 151},
        {"password": "x"},
        {"x": 1},
    ],
    ids=str,
)
def test_an_invalid_change_is_422_and_changes_nothing(
    app: Flask, client: FlaskClient, headers: dict[str, str], change: dict[str, Any]
) -> None:
    before = rows(app, "SELECT * FROM users")
    answer = client.patch(ME, json={"last_name": "Lovelace"} | change, headers=headers)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, list(change))
    assert rows(app, "SELECT * FROM users") == before


def test_a_wrong_current_password_is_403(
    app: Flask, client: FlaskClient, headers: dict[str, str]
) -> None:
    """The password does not change, and no sign-in ends."""
    before = rows(app, "SELECT password_hash FROM users")
    change = {"current_password": "not the password", "new_password": NEW_PASSWORD}
    assert client.post(PASSWORDS, json=change, headers=headers).status_code == 403
    assert rows(app, "SELECT password_hash FROM users") == before
    assert client.get(ME, headers=headers).status_code == 200


@pytest.mark.parametrize("password", ["short", "password1", "ada@example.com", "x" * 129])
def test_a_weak_new_password_is_refused(
    client: FlaskClient, headers: dict[str, str], password: str
) -> None:
    """The email address counts as a hint."""
    change = {"current_password": PASSWORD, "new_password": password}
    answer = client.post(PASSWORDS, json=change, headers=headers)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["new_password"])


def test_only_the_new_password_signs_in(client: FlaskClient, headers: dict[str, str]) -> None:
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert client.post(PASSWORDS, json=change, headers=headers).status_code == 204
    attempts = [
        client.post("/api/v1/auth/token/", json={"email": ADA, "password": password}).status_code
        for password in (PASSWORD, NEW_PASSWORD)
    ]
    assert attempts == [401, 200]


@pytest.mark.parametrize(
    ("meanwhile", "expected"),
    [("DELETE FROM users", 401), ("UPDATE users SET password_hash = 'changed'", 403)],
)
def test_a_password_change_during_another_change_fails(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: str,
    expected: int,
) -> None:
    """401 if the account was deleted meanwhile, 403 if the password was changed."""
    hash_password = passwords.hash_password

    def overtaken(password: str) -> str:
        with app.app_context():
            db.session.execute(text(meanwhile))
            db.session.commit()
        return hash_password(password)

    monkeypatch.setattr(passwords, "hash_password", overtaken)
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert client.post(PASSWORDS, json=change, headers=headers).status_code == expected


def test_a_password_change_does_not_end_sign_ins_of_other_users(
    client: FlaskClient, auth: Accounts, headers: dict[str, str]
) -> None:
    eve = auth.headers("eve@example.com")
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    client.post(PASSWORDS, json=change, headers=headers)
    assert client.get(ME, headers=eve).status_code == 200


def test_deletion_removes_the_account_its_ratings_and_its_sign_ins(
    app: Flask, client: FlaskClient, headers: dict[str, str]
) -> None:
    vote(client, headers, first_movie(client, headers)["id"], "UPVOTE")
    answer = client.delete(ME, headers=headers)
    assert (answer.status_code, answer.data) == (204, b"")
    for table in ("users", "ratings", "sign_ins"):
        assert rows(app, f"SELECT * FROM {table}") == []


def test_votes_of_a_deleted_account_are_not_counted(
    app: Flask, client: FlaskClient, auth: Accounts, headers: dict[str, str]
) -> None:
    eve = auth.headers("eve@example.com")
    movie_id = first_movie(client, headers)["id"]
    vote(client, headers, movie_id, "UPVOTE")
    vote(client, eve, movie_id, "DOWNVOTE")
    client.delete(ME, headers=headers)
    movie = client.get(f"/api/v1/movies/{movie_id}/", headers=eve).get_json()
    assert (movie["upvotes"], movie["downvotes"]) == (0, 1)
    with app.app_context():
        assert tallies.count_wrong_movies() == 0


def test_the_id_of_a_deleted_account_is_never_reused(
    client: FlaskClient, auth: Accounts, headers: dict[str, str]
) -> None:
    gone = client.get(ME, headers=headers).get_json()["id"]
    client.delete(ME, headers=headers)
    assert auth.register()["id"] > gone


def test_the_address_of_a_deleted_account_can_be_registered_again(
    client: FlaskClient, auth: Accounts, headers: dict[str, str]
) -> None:
    client.delete(ME, headers=headers)
    assert client.get(ME, headers=auth.headers(ADA)).get_json()["email"] == ADA


def test_a_command_creates_an_account(auth: Accounts, runner: FlaskCliRunner) -> None:
    result = runner.invoke(args=["users", "create", ADA, "--password", PASSWORD])
    assert (result.exit_code, result.output) == (0, "account 1 created\n")
    assert auth.sign_in(ADA)


@pytest.mark.parametrize(
    ("email", "password", "exit_code", "said"),
    [
        ("ADA@example.com", PASSWORD, 1, "An account with this email address already exists."),
        ("not an address", PASSWORD, 2, "email"),
        ("eve@example.com", "short", 1, "password"),
        ("eve@example.com", "password1", 1, "too easy to guess"),
    ],
)
def test_the_command_has_the_same_rules_as_registration(
    app: Flask,
    auth: Accounts,
    runner: FlaskCliRunner,
    email: str,
    password: str,
    exit_code: int,
    said: str,
) -> None:
    auth.register(ADA)
    result = runner.invoke(args=["users", "create", email, "--password", password])
    assert result.exit_code == exit_code
    assert said in result.output
    assert rows(app, "SELECT count(*) FROM users") == [(1,)]


def test_the_command_prompts_for_the_password(app: Flask, runner: FlaskCliRunner) -> None:
    result = runner.invoke(args=["users", "create", ADA], input=f"{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0
    assert PASSWORD not in result.output
    assert rows(app, "SELECT email FROM users") == [(ADA,)]
