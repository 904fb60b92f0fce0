"""Registration: email addresses, passwords and names."""

import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from accounts import PASSWORD, Accounts
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import IntegrityError
from tables import rows
from zxcvbn import matching

from movies.auth import passwords
from movies.auth.models import User
from movies.extensions import db

REGISTER = "/api/v1/users/register/"
ADA = "ada@example.com"
LONG_NAME = "n" * 150
LONG_PASSWORD = "zebra fjord quilt" * 7 + "9 letters"


def account(**members: Any) -> dict[str, Any]:
    return {"email": ADA, "password": PASSWORD} | members


def test_registration_returns_the_account_without_its_password(client: FlaskClient) -> None:
    answer = client.post(REGISTER, json=account(first_name="Ada", last_name="Lovelace"))
    names = {"first_name": "Ada", "last_name": "Lovelace"}
    assert answer.status_code == 201
    assert answer.get_json() == {"id": 1, "email": ADA, **names}


def test_names_are_optional(client: FlaskClient) -> None:
    user = client.post(REGISTER, json=account()).get_json()
    assert (user["first_name"], user["last_name"]) == ("", "")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (f"  {ADA}\n", ADA),
        ("Ada@Example.COM", "Ada@Example.COM"),
        ("ada@bücher.example", "ada@bücher.example"),
        ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("δοκιμή@example.com", "δοκιμή@example.com"),
        ("o'brien+films@example.com", "o'brien+films@example.com"),
    ],
)
def test_an_address_is_returned_as_given_and_trimmed(
    client: FlaskClient, given: str, kept: str
) -> None:
    answer = client.post(REGISTER, json=account(email=given))
    assert (answer.status_code, answer.get_json()["email"]) == (201, kept)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ADA, ADA),
        (ADA, "ADA@EXAMPLE.COM"),
        ("Ada@Example.com", f" {ADA} "),
        ("jürgen@example.com", "JÜRGEN@example.com"),
        ("j\u00fcrgen@example.com", "ju\u0308rgen@example.com"),
        ("straße@example.com", "STRASSE@example.com"),
        ("ada@bücher.example", "ada@BÜCHER.example"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("δοκιμή@example.com", "ΔΟΚΙΜΉ@example.com"),
    ],
)
def test_another_spelling_of_a_registered_address_is_409(
    client: FlaskClient, auth: Accounts, first: str, second: str
) -> None:
    auth.register(first)
    assert client.post(REGISTER, json=account(email=second)).status_code == 409


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("user@straße.example", "user@strasse.example"),
        ("user@faß.example", "user@FASS.example"),
        ("user@σς.example", "user@σσ.example"),
    ],
)
def test_domains_that_differ_in_dns_are_two_accounts(
    client: FlaskClient, auth: Accounts, first: str, second: str
) -> None:
    auth.register(first)
    assert client.post(REGISTER, json=account(email=second)).status_code == 201
    assert auth.sign_in(first)
    assert auth.sign_in(second)


@pytest.mark.parametrize(
    ("chosen", "typed"),
    [
        ("caf\u00e9 zebra fjord", "cafe\u0301 zebra fjord"),
        ("cafe\u0301 zebra fjord", "caf\u00e9 zebra fjord"),
        ("zebra\u00a0fjord quilt", "zebra fjord\u2003quilt"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af zebra fjord", "\ud55c\uae00 zebra fjord"),
    ],
)
def test_a_password_signs_in_however_its_characters_are_composed(
    client: FlaskClient, auth: Accounts, chosen: str, typed: str
) -> None:
    auth.register(ADA, chosen)
    assert auth.sign_in(ADA, typed)


def test_the_length_of_a_password_counts_after_normalization(client: FlaskClient) -> None:
    short = {"email": ADA, "password": "e\u0301" * 7}
    assert client.post(REGISTER, json=short).status_code == 422
    long = {"email": ADA, "password": ("zqx wvk je\u0301" * 20)[:135]}
    assert client.post(REGISTER, json=long).status_code == 201
    assert client.post("/api/v1/auth/token/", json=long).status_code == 200
    endless = {"email": ADA, "password": "e\u0301" * 500}
    assert client.post(REGISTER, json=endless).status_code == 422


def test_the_database_keeps_addresses_unique(app: Flask, client: FlaskClient) -> None:
    client.post(REGISTER, json=account())
    with app.app_context():
        db.session.add(User(email="x", email_key=ADA, password_hash=""))
        with pytest.raises(IntegrityError):
            db.session.commit()


def test_one_of_ten_simultaneous_registrations_gets_the_address(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(10)
    hash_password = passwords.hash_password

    def together(password: str) -> str:
        barrier.wait(timeout=30)
        return hash_password(password)

    monkeypatch.setattr(passwords, "hash_password", together)

    def register(number: int) -> int:
        email = ADA if number % 2 else ADA.upper()
        return app.test_client().post(REGISTER, json=account(email=email)).status_code

    with ThreadPoolExecutor(10) as pool:
        assert Counter(pool.map(register, range(10))) == {201: 1, 409: 9}
    assert rows(app, "SELECT count(*) FROM users") == [(1,)]


@pytest.mark.parametrize(
    "password",
    [
        *("password", "12345678", "qwertyuiop", "aaaaaaaa", "letmein1", "P@ssw0rd"),
        *("ada@example.com", "adaexample", "lovelace", "augusta1"),
    ],
)
def test_a_password_that_is_easy_to_guess_is_refused(client: FlaskClient, password: str) -> None:
    """The user's names and address count as hints."""
    mine = account(password=password, first_name="Augusta", last_name="Lovelace")
    answer = client.post(REGISTER, json=mine)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["password"])


@pytest.mark.parametrize(
    "password",
    ["zebra fjord quilt", "пароль для фильмов", "🎬🍿🦊🌋🚲🎷🪐🧩", "wq7\tRk2!", "x9$" * 42 + "Lq"],
)
def test_a_password_may_have_any_characters(client: FlaskClient, password: str) -> None:
    assert client.post(REGISTER, json=account(password=password)).status_code == 201
    credentials = {"email": ADA, "password": password}
    assert client.post("/api/v1/auth/token/", json=credentials).status_code == 200


def test_each_password_is_checked_with_the_hints_of_its_user(
    request: pytest.FixtureRequest,
) -> None:
    """Even if several are checked at the same time."""
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)  # seconds for which a thread runs
    words = [f"zqx{number}vkjw{number * 7}" for number in range(40)]

    def is_weak(word: str) -> bool:
        return passwords.weakness(word, [word]) is not None

    assert passwords.weakness(words[0], []) is None
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_weak, words))


def test_a_request_that_cannot_check_a_password_in_time_is_429(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "TURN_TIMEOUT", 0.01)
    monkeypatch.setattr(passwords, "_checker", threading.Semaphore(0))
    answer = client.post(REGISTER, json=account())
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (429, True)


@pytest.mark.parametrize(
    ("password", "checked"),
    [
        ("correct horse battery staple and more", 32),
        ("1234567890" * 3, 25),
        ("4@8({[<369&1!|0$57+%2" * 6, 10),
        ("[+2@7(!<$0534|1{8%96" * 6, 10),
        ("💃" * 128, 32),
    ],
)
def test_the_check_of_a_password_has_a_bounded_cost(
    monkeypatch: pytest.MonkeyPatch, password: str, checked: int
) -> None:
    looked_up: list[str] = []
    dictionary_match = matching.dictionary_match

    def count(text: str, *args: Any, **options: Any) -> Any:
        looked_up.append(text)
        return dictionary_match(text, *args, **options)

    monkeypatch.setattr(matching, "dictionary_match", count)
    passwords.weakness(password, [])
    assert len(looked_up[0]) >= checked
    assert sum(len(text) ** 2 for text in looked_up) <= 3 * passwords.MAX_EFFORT


@pytest.mark.parametrize("password", ["4@8({[<369&1!|0$57+%2", "wq7-Rk2!", "8a3f9c0b1d7e2465"])
def test_a_strong_password_with_many_symbols_is_accepted(password: str) -> None:
    assert passwords.weakness(password, []) is None


@pytest.mark.parametrize(
    ("member", "value", "expected"),
    [
        ("password", "Lq9$x2v", 422),
        ("password", "Lq9$x2vB", 201),
        ("password", LONG_PASSWORD, 201),
        ("password", LONG_PASSWORD + "x", 422),
        ("first_name", LONG_NAME, 201),
        ("first_name", LONG_NAME + "n", 422),
        ("last_name", LONG_NAME, 201),
        ("last_name", LONG_NAME + "n", 422),
        ("email", f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 57}.ex", 201),
        ("email", f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 60}.ex", 422),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_length_of_each_member_is_limited(
    client: FlaskClient, member: str, value: str, expected: int
) -> None:
    answer = client.post(REGISTER, json=account(**{member: value}))
    assert answer.status_code == expected
    assert expected == 201 or list(answer.get_json()["errors"]) == [member]


@pytest.mark.parametrize(
    "email",
    [
        *(
            "",
            " ",
            "ada",
            "ada@",
            "@example.com",
            "ada@@example.com",
            "a b@example.com",
        ),
        *("ada@example..com", "ada@-example.com", ".ada@example.com", "ada@[127.0.0.1]"),
        *("Ada <ada@example.com>", "ada@example.com,eve@example.com", "ada@exa\u200dmple.com"),
        *("ada@example.com\u0000", "ada\u202e@example.com", '"ada"@example.com'),
    ],
)
def test_an_invalid_address_is_422(app: Flask, client: FlaskClient, email: str) -> None:
    answer = client.post(REGISTER, json=account(email=email))
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["email"])
    assert rows(app, "SELECT id FROM users") == []


@pytest.mark.parametrize("member", ["email", "password"])
def test_address_and_password_are_required(client: FlaskClient, member: str) -> None:
    incomplete = {name: value for name, value in account().items() if name != member}
    answer = client.post(REGISTER, json=incomplete)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, [member])


@pytest.mark.parametrize("member", ["id", "is_admin", "password_hash", "email_key", "Email"])
def test_unknown_and_read_only_members_are_422(client: FlaskClient, member: str) -> None:
    answer = client.post(REGISTER, json=account(**{member: 1}))
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, [member])


def test_the_password_is_stored_as_an_argon2id_hash(app: Flask, auth: Accounts) -> None:
    auth.register()
    [row] = rows(app, "SELECT * FROM users")
    assert PASSWORD not in str(row)
    assert "$argon2id$" in str(row)
