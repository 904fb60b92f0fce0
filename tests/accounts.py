"""Registers and signs in accounts, for tests."""

from itertools import count
from typing import Any

from flask.testing import FlaskClient

PASSWORD = "lovelace-and-babbage"


class Accounts:
    """Registers accounts and signs them in."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client
        self._numbers = count(1)

    def register(self, email: str | None = None, password: str = PASSWORD) -> dict[str, Any]:
        """A new account, as the API returns it."""
        email = email or f"user{next(self._numbers)}@example.com"
        answer = self._client.post(
            "/api/v1/users/register/", json={"email": email, "password": password}
        )
        assert answer.status_code == 201, answer.text
        account: dict[str, Any] = answer.get_json()
        return account

    def sign_in(self, email: str, password: str = PASSWORD) -> dict[str, str]:
        """The `access` and `refresh` tokens of a new sign-in."""
        answer = self._client.post(
            "/api/v1/auth/token/", json={"email": email, "password": password}
        )
        assert answer.status_code == 200, answer.text
        tokens: dict[str, str] = answer.get_json()
        return tokens

    def headers(self, email: str | None = None) -> dict[str, str]:
        """The request headers of a new account, which is signed in."""
        account = self.register(email)
        return {"Authorization": f"Bearer {self.sign_in(account['email'])['access']}"}
