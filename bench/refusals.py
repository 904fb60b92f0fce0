"""Requests to the provider that a cold search takes, and how many searches are answered."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.common import application, signed_in
from stand_in.server import Faults, StandIn

SEARCHES = 1000
SHARES = (0.0, 0.09, 0.3, 0.6)


def run(directory: Path) -> None:
    """Print, for each share of refusals, the distribution over SEARCHES cold searches."""
    with StandIn() as provider:
        app = application(directory, NOVEMBER7_URL=provider.url)
        headers = signed_in(app)
        for share in SHARES:
            provider.faults = Faults(refuse=share, seed=7)
            provider.reset()

            def search(number: int, share: float = share) -> int:
                path = f"/api/v1/movies/?query=refused {share} {number}"
                return app.test_client().get(path, headers=headers).status_code

            with ThreadPoolExecutor(8) as pool:
                answers = Counter(pool.map(search, range(SEARCHES)))
            tries = Counter(Counter(provider.requests).values())
            print(
                f"  {share:>4.0%} refused: {answers[200] / SEARCHES:.1%} answered,"
                f" {len(provider.requests) / SEARCHES:.2f} requests a search;",
                "searches by requests:",
                dict(sorted(tries.items())),
            )
