"""What migrations do to existing data, on both databases."""

from collections.abc import Callable
from typing import Any

import pytest
from accounts import PASSWORD, Accounts
from flask import Flask
from flask_migrate import downgrade, upgrade
from tables import execute
from unmigrated import GONE, MOVIE, SEEN, THEN, fill, ratings

from movies.auth import passwords
from movies.auth.emails import address_key
from movies.movies import tallies

pytestmark = pytest.mark.slow

BEFORE_EMAIL_KEYS = "0004"


@pytest.fixture
def app(make_empty: Callable[[], Flask]) -> Flask:
    """The application on a database without tables."""
    return make_empty()


def test_the_upgrade_to_0003_keeps_ratings_and_tallies(app: Flask) -> None:
    with app.app_context():
        upgrade(revision="0002")
        fill()
        before = ratings()
        upgrade()
        assert ratings() == before
        found = execute("SELECT upvotes, downvotes, title, score FROM movies ORDER BY 1, 2")
        wilson = 0.2076596  # of 2 upvotes and 1 downvote
        assert found[:2] == [(0, 0, None, 0), (0, 1, None, 0)]
        assert found[2:] == [(2, 1, None, pytest.approx(wilson, abs=1e-7))]


def test_check_finds_a_rating_that_was_never_counted(app: Flask) -> None:
    """`ratings rebuild` then corrects the tally and the score."""
    with app.app_context():
        upgrade(revision="0002")
        fill()
        upgrade()
        assert tallies.count_wrong_movies() == 1
        tallies.rebuild()
        assert tallies.count_wrong_movies() == 0


def test_the_downgrade_to_0002_keeps_ratings_and_tallies(app: Flask) -> None:
    with app.app_context():
        upgrade(revision="0002")
        fill()
        before = ratings(), execute("SELECT * FROM tallies ORDER BY upvotes")
        upgrade()
        downgrade(revision="0002")
        assert (ratings(), execute("SELECT * FROM tallies ORDER BY upvotes")) == before


def test_ids_of_ratings_are_not_reused(app: Flask) -> None:
    """Although the migration copies the table."""
    with app.app_context():
        upgrade(revision="0002")
        fill()
        upgrade()
        ((newest,),) = execute("SELECT max(id) FROM ratings")
        execute("DELETE FROM ratings WHERE id = :id", id=newest)
        ((following,),) = execute(
            "INSERT INTO ratings (user_id, movie_id, rating_type, created_at, updated_at)"
            " VALUES (2, :movie_id, 'UPVOTE', :then, :then) RETURNING id",
            movie_id=GONE,
            then=THEN,
        )
        assert following > newest


def test_ratings_without_a_described_movie_work(app: Flask) -> None:
    """`cache warm` fetches the description."""
    with app.app_context():
        upgrade(revision="0002")
        fill()
        upgrade()
        tallies.rebuild()
        execute("UPDATE users SET password_hash = :hash", hash=passwords.hash_password(PASSWORD))
    client = app.test_client()
    tokens = Accounts(client).sign_in("user1@example.com")
    headers = {"Authorization": f"Bearer {tokens['access']}"}

    def listed() -> dict[str, Any]:
        found = client.get("/api/v1/movies/ratings/", headers=headers).get_json()["results"]
        return {rating["movie_id"]: rating for rating in found}

    before = listed()
    assert [rating["movie"] for rating in before.values()] == [None] * 3
    at = f"/api/v1/movies/ratings/{before[str(SEEN)]['id']}"
    changed = client.patch(at, json={"rating_type": "DOWNVOTE"}, headers=headers)
    assert (changed.status_code, changed.get_json()["movie"]) == (200, None)
    assert client.get("/api/v1/movies/top/", headers=headers).get_json()["count"] == 0
    assert app.test_cli_runner().invoke(args=["cache", "warm"]).exit_code == 0
    after = listed()
    assert after[str(SEEN)]["movie"] == {key: MOVIE[key] for key in ("id", "title", "image_url")}
    assert after[str(GONE)]["movie"] is None
    (best,) = client.get("/api/v1/movies/top/", headers=headers).get_json()["results"]
    assert (best["id"], best["upvotes"], best["downvotes"]) == (str(SEEN), 1, 2)


def test_email_keys_distinguish_internationalized_domains(app: Flask) -> None:
    """Accounts are found by their new keys, and by their old keys after a downgrade."""
    emails = {
        "user@straße.example": ("user@strasse.example", "user@xn--strae-oqa.example"),
        "Ada@BÜCHER.example": ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        "ada@xn--fiqs8s.example": ("ada@中国.example", "ada@xn--fiqs8s.example"),
        "Straße@example.com": ("strasse@example.com", "strasse@example.com"),
        "Eve@Example.com": ("eve@example.com", "eve@example.com"),
    }
    with app.app_context():
        upgrade(revision=BEFORE_EMAIL_KEYS)
        for email, (old, _) in emails.items():
            execute(
                "INSERT INTO users (email, email_key, first_name, last_name, password_hash,"
                " created_at) VALUES (:email, :key, '', '', 'none', :then)",
                email=email,
                key=old,
                then=THEN,
            )
        upgrade()
        found = dict(execute("SELECT email, email_key FROM users"))
        assert found == {email: new for email, (_, new) in emails.items()}
        assert found == {email: address_key(email) for email in emails}
        downgrade(revision=BEFORE_EMAIL_KEYS)
        found = dict(execute("SELECT email, email_key FROM users"))
        assert found == {email: old for email, (old, _) in emails.items()}
