"""Users who vote and search continuously, and the outcome of each of their requests."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from time import monotonic
from typing import Any

import requests
from accounts import PASSWORD
from helpers import eventually

from movies.november7.sample.catalogue import sample_movies

log = logging.getLogger(__name__)

MOVIES = [movie["id"] for movie in sample_movies()][:8]
USERS = 3
UNAVAILABLE = 503
_numbers = count(1)


class User:
    """An account and its votes.

    `votes` holds the possible votes on each movie: several if a request got no response. `outcomes`
    counts responses by status, and exceptions by name.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self.votes: dict[str, set[str]] = {}
        self.outcomes: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.failed_at: list[float] = []
        account = {"email": f"user{next(_numbers)}@example.com", "password": PASSWORD}
        assert self.ask("POST", "/api/v1/users/register/", json=account).status_code == 201
        access = self.ask("POST", "/api/v1/auth/token/", json=account).json()["access"]
        self._session.headers["Authorization"] = f"Bearer {access}"

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        return self._session.request(method, self._url + path, timeout=30, **options)

    def act(self, number: int) -> None:
        """Vote on one movie, then search for something."""
        movie, vote = MOVIES[number % len(MOVIES)], ("UPVOTE", "DOWNVOTE")[number // 8 % 2]
        path = f"/api/v1/movies/{movie}/rating/"
        possible = self.votes.get(movie, {"none"})
        self.votes[movie] = {vote, *possible}
        if self._counted("PUT", path, json={"rating_type": vote}):
            self.votes[movie] = {vote}
        self._counted("GET", "/api/v1/movies/", params={"query": f"the {number % 5}"})

    def _counted(self, method: str, path: str, **options: Any) -> bool:
        try:
            answer = self.ask(method, path, **options)
        except requests.RequestException as error:
            self.outcomes[type(error).__name__] += 1
            self.unexpected.append(f"{method} {path}: {error}")
            self.failed_at.append(monotonic())
            return False
        self.outcomes[str(answer.status_code)] += 1
        if answer.status_code == UNAVAILABLE and "Retry-After" in answer.headers:
            self.failed_at.append(monotonic())
        elif not answer.ok:
            self.unexpected.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.ok

    def lost(self) -> list[str]:
        """The movies whose vote is not one of the possible ones."""
        found = {}
        for movie in self.votes:
            answer = self.ask("GET", f"/api/v1/movies/{movie}/rating/")
            assert answer.status_code in (200, 404), answer.text
            found[movie] = answer.json()["rating_type"] if answer.ok else "none"
        return [movie for movie, vote in found.items() if vote not in self.votes[movie]]


class Traffic:
    """The requests of USERS users. Each acts until the traffic stops."""

    def __init__(self, url: str) -> None:
        self._users = [User(url) for _ in range(USERS)]
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in self._users]

    def _run(self, user: User) -> None:
        for number in count():
            if self._stopping.is_set():
                return
            user.act(number)
            self._stopping.wait(0.05)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def outcomes(self) -> Counter[str]:
        """The responses by status, and the exceptions by name."""
        return sum((user.outcomes for user in self._users), Counter())

    @property
    def unexpected(self) -> list[str]:
        """All outcomes except success and 503 with `Retry-After`."""
        return [text for user in self._users for text in user.unexpected]

    @property
    def seconds_of_errors(self) -> float:
        """From the first failed request to the last."""
        moments = [moment for user in self._users for moment in user.failed_at]
        return max(moments) - min(moments) if moments else 0.0

    def goes_on(self) -> bool:
        """Whether each user has four more requests that succeed."""
        return self._reaches(lambda user: user.outcomes["200"] + user.outcomes["201"], 4)

    def is_refused(self) -> bool:
        """Whether each user gets another 503."""
        return self._reaches(lambda user: user.outcomes[str(UNAVAILABLE)], 1)

    def _reaches(self, counted: Callable[[User], int], more: int) -> bool:
        goals = [counted(user) + more for user in self._users]
        return eventually(
            lambda: all(
                counted(user) >= goal for user, goal in zip(self._users, goals, strict=True)
            ),
            within=60,
        )

    def lost(self) -> list[str]:
        """The movies whose acknowledged vote is missing."""
        return [movie for user in self._users for movie in user.lost()]


@contextmanager
def traffic(url: str) -> Iterator[Traffic]:
    """Traffic on the service at `url`. The block begins when each user has had some successes."""
    running = Traffic(url)
    running.start()
    try:
        assert running.goes_on(), (running.outcomes, running.unexpected[:3])
        yield running
    finally:
        running.stop()
        outcomes = dict(running.outcomes)
        log.info("%s; errors for %.1f s", outcomes, running.seconds_of_errors)
