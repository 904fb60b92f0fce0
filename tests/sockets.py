"""Sockets in front of a server: a Unix socket that leads to it, and an address that is dead."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import Thread


@contextmanager
def unix_socket(path: Path, host: str, port: int) -> Iterator[None]:
    """Connections to `path` lead to a TCP server."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        Thread(target=_forward, args=(server, (host, port)), daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)


def _forward(server: socket.socket, target: tuple[str, int]) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            onward = socket.create_connection(target)
            for source, sink in ((client, onward), (onward, client)):
                Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError), closing(sink):
        while data := source.recv(65536):
            sink.sendall(data)


@contextmanager
def black_hole(host: str, port: int) -> Iterator[None]:
    """Connections to this address are neither accepted nor refused."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(0)
        for _ in range(3):  # fills the backlog
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        yield
