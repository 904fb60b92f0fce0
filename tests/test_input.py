"""Malformed and hostile bodies: each gets a 4xx problem on both databases and writes nothing."""

import gzip
import json
from collections.abc import Iterator
from io import BytesIO, RawIOBase
from typing import Any

import pytest
from accounts import Accounts
from attacker import Attacker
from flask import Flask
from flask.testing import FlaskClient

KNOWN = "/api/v1/movies/00000000-0000-0000-0000-000000000001/rating/"
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/v1/auth/token/"): {"email": "ada@example.com", "password": "secret"},
    ("POST", "/api/v1/auth/refresh/"): {"refresh": "token"},
    ("POST", "/api/v1/auth/verify/"): {"token": "token"},
    ("POST", "/api/v1/auth/logout/"): {"refresh": "token"},
    ("POST", "/api/v1/users/register/"): {
        "email": "eve@example.com",
        "password": "lovelace-and-babbage",
    },
    ("PATCH", "/api/v1/users/me/"): {"first_name": "Ada"},
    ("POST", "/api/v1/users/me/password/"): {
        "current_password": "lovelace-and-babbage",
        "new_password": "notes on the engine",
    },
    ("POST", "/api/v1/movies/ratings/"): {"movie_id": "x", "rating_type": "UPVOTE"},
    ("PUT", "/api/v1/movies/ratings/1"): {"rating_type": "UPVOTE"},
    ("PATCH", "/api/v1/movies/ratings/1"): {"rating_type": "UPVOTE"},
    ("PUT", KNOWN): {"rating_type": "UPVOTE"},
}


@pytest.fixture
def refused(app: Flask, auth: Accounts) -> Iterator[Attacker]:
    """Sends a request as a user; the response must be a 4xx problem and nothing may be written."""
    attacker = Attacker(app, auth)
    yield attacker
    attacker.check()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b" ", 400),
        (b"{", 400),
        (b"{}x", 400),
        (b"{'a': 1}", 400),
        (b"\xef\xbb\xbf{}", 400),
        (b"\xff\xfe{}", 400),
        (b'{"a": "\xff"}', 400),
        (b'{"a": "\xed\xa0\x80"}', 400),
        ('{"a": "€"}'.encode("utf-16"), 400),
        (b'{"a": "\x00"}', 400),
        (b'{"a": NaN}', 400),
        (b'{"a": -Infinity}', 400),
        (b'{"a": 1' + b"0" * 5000 + b"}", 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"[{}]", 422),
        (b"null", 422),
        (b"true", 422),
        (b"7", 422),
        (b"1e400", 422),
        (b'"{}"', 422),
        (b'{"a": 1e400}', 422),
        (b'{"a": 123456789012345678901234567890}', 422),
        (b'{"\\ud800": 1}', 422),
        (b'{"\\u0000": 1}', 422),
        (b'{"": 1}', 422),
        (b'{"__proto__": {}, "constructor": []}', 422),
        (b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}", 422),
        (b"{" + b",".join(b'"m%d": 1' % n for n in range(5000)) + b"}", 422),
    ],
    ids=lambda value: str(value[:24]) if isinstance(value, bytes) else None,
)
def test_every_endpoint_refuses_malformed_bodies(
    refused: Attacker, body: bytes, status: int
) -> None:
    """400 if the body is not JSON; 422 if it is not an object or has unknown members."""
    for method, path in BODIES:
        answer = refused(method, path, data=body, content_type="application/json")
        assert answer.status_code == status, (method, path)


@pytest.mark.parametrize(
    "body",
    ["[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000],
    ids=["arrays", "objects"],
)
def test_every_endpoint_refuses_deeply_nested_bodies(refused: Attacker, body: str) -> None:
    """Python 3.14 parses them, and older versions do not."""
    for method, path in BODIES:
        answer = refused(method, path, data=body, content_type="application/json")
        assert answer.status_code in (400, 422), (method, path)


@pytest.mark.parametrize(
    "value",
    [
        *("\0", "a\0b", "\ud800", "\udfff", "a\udc00b", 7, 1.5, 10**30, -(2**63) - 1, 1e300),
        *(True, None, [], ["x"], {}, {"$ne": None}, "x" * 10_240),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_every_member_refuses_values_of_the_wrong_shape(refused: Attacker, value: Any) -> None:
    for (method, path), body in BODIES.items():
        for member in body:
            wrong = body | {member: value}
            answer = refused(method, path, data=json.dumps(wrong), content_type="application/json")
            assert answer.status_code == 422, (method, path, member)
            assert member in answer.get_json()["errors"], (method, path, member)


def test_a_repeated_member_is_422(refused: Attacker) -> None:
    for (method, path), body in BODIES.items():
        member = next(iter(body))
        twice = f"{json.dumps(body)[:-1]}, {json.dumps(member)}: 1}}"
        answer = refused(method, path, data=twice, content_type="application/json")
        assert list(answer.get_json()["errors"]) == [member], (method, path)


def test_an_unknown_member_is_422(refused: Attacker) -> None:
    for (method, path), body in BODIES.items():
        answer = refused(method, path, json=body | {"is_admin": True})
        assert answer.get_json()["errors"]["is_admin"] == ["Unknown field."], (method, path)


@pytest.mark.parametrize(
    "content_type",
    [
        *(None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"),
        *(
            "application/xml",
            "application/jsonx",
            "json",
            "text/json",
            "application/json-patch+json",
        ),
        *("*/*", "\u00e9", "application/"),
    ],
)
def test_another_media_type_is_415(refused: Attacker, content_type: str | None) -> None:
    for (method, path), body in BODIES.items():
        answer = refused(method, path, data=json.dumps(body), content_type=content_type)
        assert answer.status_code == 415, (method, path)


def test_a_compressed_body_is_415(refused: Attacker) -> None:
    for (method, path), body in BODIES.items():
        data = gzip.compress(json.dumps(body).encode())
        gzipped: Any = {"HTTP_CONTENT_ENCODING": "gzip", "CONTENT_TYPE": "application/json"}
        answer = refused(method, path, data=data, environ_overrides=gzipped)
        accepted = answer.headers.get("Accept-Encoding")
        assert (answer.status_code, accepted) == (415, "identity"), (method, path)


def test_a_body_may_have_the_content_encoding_identity(client: FlaskClient, auth: Accounts) -> None:
    headers = {**auth.headers(), "Content-Encoding": "Identity"}
    assert client.patch("/api/v1/users/me/", headers=headers, json={}).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON"])
def test_parameters_and_case_of_the_media_type_are_ignored(
    client: FlaskClient, content_type: str
) -> None:
    answer = client.post("/api/v1/auth/verify/", data=b"{", content_type=content_type)
    assert answer.status_code == 400


class Endless(RawIOBase):
    """A body of 20 MB that counts how much of it is read."""

    def __init__(self) -> None:
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), 20 * 1024 * 1024 - self.bytes_read)
        buffer[:size] = b"x" * size
        self.bytes_read += size
        return size


@pytest.mark.parametrize(
    "length",
    [{"CONTENT_LENGTH": str(20 * 1024 * 1024)}, {"HTTP_TRANSFER_ENCODING": "chunked"}],
    ids=["told", "chunked"],
)
def test_a_body_of_20_mb_is_413_without_reading_it(
    refused: Attacker, length: dict[str, str]
) -> None:
    """With a length or chunked: at most 2 MiB of it are read."""
    for method, path in BODIES:
        body = Endless()
        stream: dict[str, Any] = {"wsgi.input": body, "wsgi.input_terminated": True}
        answer = refused(
            method, path, content_type="application/json", environ_overrides=stream | length
        )
        assert answer.status_code == 413, (method, path)
        assert body.bytes_read <= 2 * 1024 * 1024


def test_a_body_of_1_mib_is_read(client: FlaskClient) -> None:
    body = BytesIO(b" " * (1024 * 1024 - 2) + b"{}")
    answer = client.post("/api/v1/auth/verify/", data=body, content_type="application/json")
    assert answer.status_code == 422


@pytest.mark.parametrize("rating_type", ["upvote", "UPVOTE ", "", "UP", 1, None, ["UPVOTE"], True])
def test_any_other_rating_type_is_422(refused: Attacker, rating_type: Any) -> None:
    for method in ("PUT", "PATCH"):
        answer = refused(method, "/api/v1/movies/ratings/1", json={"rating_type": rating_type})
        assert list(answer.get_json()["errors"]) == ["rating_type"]


def test_endpoints_with_a_body_refuse_query_parameters(refused: Attacker) -> None:
    for (method, path), body in BODIES.items():
        answer = refused(method, f"{path}?x=1", json=body)
        assert answer.status_code == 422, path


def test_the_body_is_checked_before_the_query_string(refused: Attacker) -> None:
    path = "/api/v1/users/register/?x=1"
    assert refused("POST", path, data="{}", content_type="text/plain").status_code == 415
    assert refused("POST", path, data="{", content_type="application/json").status_code == 400


def test_a_very_long_email_address_is_refused_quickly(refused: Attacker) -> None:
    """Normalizing this one would take a minute."""
    email = "a" + "\u0316\u0301" * 150_000 + "@b.example"
    for path in ("/api/v1/users/register/", "/api/v1/auth/token/"):
        answer = refused("POST", path, json={"email": email, "password": "x" * 9})
        assert answer.status_code in (413, 422)


def test_endpoints_without_a_body_refuse_query_parameters(refused: Attacker) -> None:
    for path in ("/api/v1/users/me/", "/api/v1/movies/ratings/1"):
        for method in ("GET", "DELETE"):
            assert refused(method, f"{path}?x=1").status_code == 422, path


@pytest.mark.parametrize("content_type", ["application/json", "application/merge-patch+json"])
def test_patch_takes_merge_patch(client: FlaskClient, auth: Accounts, content_type: str) -> None:
    body = json.dumps({"first_name": "Ada"})
    options: dict[str, Any] = {"data": body, "content_type": content_type}
    answer = client.patch("/api/v1/users/me/", headers=auth.headers(), **options)
    assert (answer.status_code, answer.get_json()["first_name"]) == (200, "Ada")


def test_415_lists_the_accepted_media_types(refused: Attacker) -> None:
    """Merge patches are for PATCH only."""
    merge_patch = "application/merge-patch+json"
    put = refused("PUT", "/api/v1/movies/ratings/1", data="{}", content_type=merge_patch)
    patch = refused("PATCH", "/api/v1/movies/ratings/1", data="{}", content_type="text/plain")
    assert (put.status_code, put.headers["Accept"]) == (415, "application/json")
    assert "Accept-Patch" not in put.headers
    assert (patch.status_code, patch.headers["Accept-Patch"]) == (
        415,
        f"application/json, {merge_patch}",
    )


@pytest.mark.parametrize(
    "read_only",
    [
        '"id": 1, "id": 2',
        '"email": {"a": 1, "a": 2}, "email": null',
        '"id": [[{"a": {"b": 1, "b": 2}}]]',
        '"id": 1e999, "email": "\\ud800\\u0000"',
    ],
)
def test_read_only_members_are_ignored_whatever_their_values(
    client: FlaskClient, auth: Accounts, read_only: str
) -> None:
    """Repeated members, too."""
    options: dict[str, Any] = {"data": f'{{"first_name": "Ada", {read_only}}}'}
    answer = client.patch(
        "/api/v1/users/me/", headers=auth.headers(), content_type="application/json", **options
    )
    assert (answer.status_code, answer.get_json()["first_name"]) == (200, "Ada")


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_number_of_5000_digits_is_400_or_422(refused: Attacker, method: str) -> None:
    body = b'{"rating_type": "UPVOTE", "id": ' + b"9" * 5000 + b"}"
    path = "/api/v1/movies/ratings/1"
    answer = refused(method, path, data=body, content_type="application/json")
    assert answer.status_code in (400, 422)
