"""Connections that are kept open, so that a test knows which worker responds."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPResponse

from helpers import eventually
from served import Served


@contextmanager
def connection_to_each_worker(app: Served) -> Iterator[list[HTTPConnection]]:
    """A connection to each worker of a server; Linux knows which worker has accepted it."""
    with ExitStack() as stack:
        found: dict[int, HTTPConnection] = {}

        def is_complete() -> bool:
            address = app.url.removeprefix("http://")
            connection = stack.enter_context(closing(HTTPConnection(address, timeout=30)))
            get(connection, "/health/live")
            [pid] = app.connected_to(connection.sock.getsockname()[1])
            found.setdefault(pid, connection)
            return len(found) == len(app.pids)

        assert eventually(is_complete)
        yield list(found.values())


def get(connection: HTTPConnection, path: str, **headers: str) -> HTTPResponse:
    """The response to a GET request, whose body has been read."""
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    return response
