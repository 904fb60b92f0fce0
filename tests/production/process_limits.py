"""Limits of the resources of running processes."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def limited(pids: list[int], kind: int, limits: list[int]) -> Iterator[None]:
    """Lower a limit of each process while the block runs."""
    with ExitStack() as stack:
        for pid, limit in zip(pids, limits, strict=True):
            before = resource.prlimit(pid, kind)
            stack.callback(resource.prlimit, pid, kind, before)
            resource.prlimit(pid, kind, (limit, before[1]))
        yield
