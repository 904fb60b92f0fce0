"""Accounts and votes of a deployed server, on both databases."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Literal
from unicodedata import normalize

import jwt
import pytest
from argon2 import PasswordHasher
from helpers import eventually

from production.deployments import END_BACKENDS, MOVIE_ID, VOTE, Deployment, assert_unavailable

pytestmark = pytest.mark.slow


# Accounts and tokens


def test_domains_are_compared_as_in_dns(deployment: Deployment) -> None:
    first, other = "user@straße.example", "user@strasse.example"
    assert [deployment.register(email) for email in (first, other)] == [201, 201]
    for same in ("USER@Straße.Example", "user@xn--strae-oqa.example", "User@STRASSE.example"):
        assert deployment.register(same) == 409
        assert deployment.sign_in(same).ok


@pytest.mark.parametrize(("chosen", "typed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_password_is_the_same_in_every_normal_form(
    deployment: Deployment, chosen: Literal["NFC", "NFD"], typed: Literal["NFC", "NFD"]
) -> None:
    email, password = f"{chosen}@example.com", "Ångström brûlée 東京"
    assert deployment.register(email, normalize(chosen, password)) == 201
    assert deployment.sign_in(email, normalize(typed, password)).ok
    assert deployment.sign_in(email, password.lower()).status_code == 401


def test_a_hash_that_was_made_before_normalization_works(deployment: Deployment) -> None:
    """And is replaced, so that the other form works from then on."""
    email, typed = "old@example.com", normalize("NFD", "Ångström brûlée 東京")
    deployment.register(email)
    old = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(typed)
    deployment.sql(f"UPDATE users SET password_hash = '{old}' WHERE email = '{email}'")
    assert deployment.sign_in(email, typed).ok
    assert deployment.sign_in(email, normalize("NFC", typed)).ok


@pytest.mark.parametrize(
    ("times", "status"),
    [
        ({"iat": 8, "nbf": 8, "exp": 900}, 200),
        ({"iat": -900, "nbf": -900, "exp": -1}, 200),
        ({"iat": 60, "nbf": 60, "exp": 900}, 401),
        ({"iat": 60, "nbf": 0, "exp": 900}, 401),
        ({"iat": 0, "nbf": 60, "exp": 900}, 401),
        ({"iat": -900, "nbf": -900, "exp": -60}, 401),
    ],
)
def test_a_token_is_valid_within_the_leeway(
    deployment: Deployment, times: dict[str, int], status: int
) -> None:
    """An instance whose clock differs by this number of seconds would issue such a token."""
    api = deployment.api
    token, key = api.headers["Authorization"].split()[1], api.environment["JWT_SECRET_KEY"]
    claims = jwt.decode(token, options={"verify_signature": False})
    claims |= {name: int(time.time()) + seconds for name, seconds in times.items()}
    changed = jwt.encode(claims, key, headers={"kid": jwt.get_unverified_header(token)["kid"]})
    headers = {"Authorization": f"Bearer {changed}"}
    assert api.ask("GET", "/api/v1/users/me/", headers=headers).status_code == status
    assert api.ask("POST", "/api/v1/auth/verify/", json={"token": changed}).status_code == status


# Databases


def test_a_read_only_server_is_503_until_it_is_writable_again(
    postgresql_and_redis: Deployment,
) -> None:
    """Connections that were opened meanwhile would stay read-only, so they are replaced."""
    deployment, api = postgresql_and_redis, postgresql_and_redis.api
    assert deployment.vote().ok
    ((name,),) = deployment.sql("SELECT current_database()")
    deployment.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on', END_BACKENDS)
    for kind in ("DOWNVOTE", "UPVOTE"):
        assert_unavailable(deployment.vote(kind))
        assert api.ask("GET", "/api/v1/movies/top/").ok
    deployment.sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert eventually(lambda: all(deployment.vote(kind).ok for kind in ("DOWNVOTE", "UPVOTE")))
    assert "Traceback" not in api.log


def test_a_vote_that_cannot_be_serialized_is_cast_again(postgresql_and_redis: Deployment) -> None:
    deployment = postgresql_and_redis
    assert deployment.vote("UPVOTE").ok
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    waiting += " AND datname = current_database()"
    with ThreadPoolExecutor() as pool, deployment.connection(autocommit=False) as other:
        other.execute(f"UPDATE movies SET title = title WHERE id = '{MOVIE_ID}'")
        vote = pool.submit(deployment.vote, "DOWNVOTE")
        assert eventually(lambda: bool(deployment.sql(waiting)))
        other.commit()
        assert vote.result(30).json()["rating_type"] == "DOWNVOTE"


def test_a_locked_file_is_503_until_it_is_free(sqlite_alone: Deployment) -> None:
    assert sqlite_alone.vote("UPVOTE").ok
    with sqlite_alone.connection() as other:
        other.execute("BEGIN IMMEDIATE")
        assert_unavailable(sqlite_alone.vote("DOWNVOTE"))
        assert sqlite_alone.api.ask("GET", "/api/v1/movies/top/").ok
    assert sqlite_alone.vote("DOWNVOTE").ok


def test_an_unmigrated_database_is_503_and_the_log_says_what_to_run(deployment: Deployment) -> None:
    advice = "Run `flask --app wsgi db upgrade`"
    assert advice not in deployment.api.log
    with deployment.without_tables():
        assert_unavailable(deployment.sign_in("ada@example.com"))
        ready = deployment.api.ask("GET", "/health/ready")
    assert (ready.status_code, ready.json()["database"]) == (503, "not migrated")
    assert advice in deployment.api.log
    assert deployment.sign_in("ada@example.com").ok


def test_a_repeated_vote_uses_up_no_id(deployment: Deployment) -> None:
    last_id = "SELECT last_value FROM ratings_id_seq"
    if not deployment.is_postgresql:
        last_id = "SELECT seq FROM sqlite_sequence WHERE name = 'ratings'"
    deployment.vote()
    before = deployment.sql(last_id)
    votes = [deployment.vote(kind) for kind in ("UPVOTE", "UPVOTE", "DOWNVOTE", "DOWNVOTE")]
    assert [answer.status_code for answer in votes] == [200] * 4
    assert deployment.sql(last_id) == before


def test_times_always_have_microseconds(deployment: Deployment) -> None:
    deployment.vote()
    moment = "'2026-01-02 03:04:05.000000'"
    deployment.sql(f"UPDATE ratings SET created_at = {moment}, updated_at = {moment}")
    rating = deployment.api.ask("GET", VOTE).json()
    assert rating["created_at"].endswith(":04:05.000000+00:00")
    assert rating["updated_at"] == rating["created_at"]
