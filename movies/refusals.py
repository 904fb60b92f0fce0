"""Reports requests that gunicorn rejects, such as invalid HTTP, as problems without Flask."""

import json
from contextlib import suppress
from http import HTTPStatus

from movies import access_log
from movies.client_socket import ClientSocket
from movies.logs import request_id
from movies.problems import TITLES

INVALID = "The request is not valid HTTP, or exceeds a limit of the server."
DETAILS = {
    HTTPStatus.REQUEST_TIMEOUT: "The request did not arrive in time.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "An unexpected error occurred. It has been logged.",
}


class ErrorPage:
    """Replaces a client's socket while gunicorn writes its HTML page for an error."""

    def __init__(self) -> None:
        self._page = b""

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self._page += data

    @property
    def status(self) -> HTTPStatus:
        """The status of the page."""
        return HTTPStatus(int(self._page.split(b" ", 2)[1]))


def refuse(client: ClientSocket, status: HTTPStatus, *, is_counted: bool = False) -> None:
    """Respond with a problem. Log and count the request, unless the application has done so."""
    if not is_counted:
        access_log.record("other", {"route": "refused", "status": status.value}, 0.0)
    with suppress(OSError):  # the client has left
        client.sendall(_problem(status, request_id.get() or ""))
        client.flush()


def _problem(status: HTTPStatus, request: str) -> bytes:
    """An HTTP response of application/problem+json (RFC 9457) that closes the connection."""
    title, detail = TITLES[status], DETAILS.get(status, INVALID)
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body = json.dumps(problem).encode()
    lines = [
        f"HTTP/1.1 {status.value} {title}",
        "Connection: close",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        f"X-Request-ID: {request}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
