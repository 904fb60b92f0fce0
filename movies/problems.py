"""Defines what a problem is (RFC 9457), and makes the response that reports one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import responses
from typing import Any

import orjson
from flask import Response

from movies.urls import absolute_url

PROBLEMS_PATH = "/api/schema/problems/"
EXAMPLE_URL = "https://movies.example.com"

# The names of RFC 9110. Python before 3.13 has older ones for these four.
TITLES = {
    **responses,
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One kind of problem: what clients receive, and how the documentation describes it.

    slug: its name in the documentation; None if the status alone describes it (`about:blank`).
    detail: the text that clients receive.
    when: when it occurs, for the documentation.
    advice: what the client should do, for the documentation.
    retry_after: the default value of `Retry-After` in seconds; None for no such header.
    challenge: the value of `WWW-Authenticate`; None for no such header.
    members: an example of additional members.
    """

    slug: str | None
    status: int
    detail: str
    when: str
    advice: str = "Correct the request."
    retry_after: int | None = None
    challenge: str | None = None
    members: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name of the status."""
        return TITLES.get(self.status, "Error")

    @property
    def path(self) -> str | None:
        """The path of its entry in the list of problems."""
        return f"{PROBLEMS_PATH}#{self.slug}" if self.slug else None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every response of this kind."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.challenge is not None:
            headers["WWW-Authenticate"] = self.challenge
        return headers

    @property
    def example(self) -> dict[str, Any]:
        """The body of a response, for the documentation."""
        return self.body(EXAMPLE_URL + self.path if self.path else "about:blank", **self.members)

    def body(self, type_: str, **members: Any) -> dict[str, Any]:
        """The body of a response whose `type` is the URL `type_`."""
        standard = {"type": type_, "title": self.title, "status": self.status}
        return {**standard, "detail": self.detail, **members}


def problem_response(
    problem: Problem, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """The response that reports a problem, with further headers and members."""
    type_ = absolute_url(problem.path) if problem.path else "about:blank"
    return Response(
        orjson.dumps(problem.body(type_, **members)),
        f"{problem.status} {problem.title}",
        {**problem.headers, **(headers or {})},
        content_type="application/problem+json",
    )
