"""How fresh a cached answer must be for a caller (RFC 9111, section 5.2.1)."""

import math
from dataclasses import dataclass
from typing import Literal

from movies.november7.blocks import Page


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a caller accepts from the cache. The default accepts everything that is still served.

    `max_age`, `max_stale` and `min_fresh` are seconds: the greatest age, the greatest time past
    freshness, and the least remaining freshness. `no_cache`: accept nothing from the cache.
    `only_if_cached`: accept nothing else.
    """

    max_age: float = math.inf
    max_stale: float = math.inf
    min_fresh: float = 0
    no_cache: bool = False
    only_if_cached: bool = False

    @property
    def always_fetches(self) -> bool:
        """Whether no cached answer can satisfy the caller."""
        return self.no_cache or self.max_age == 0

    def refusal(self, block: Page, now: float) -> Literal["stale", "request"] | None:
        """Why the caller does not accept a cached block, in the terms of RFC 9211; None if it does.

        `now`: Unix time in seconds.
        """
        fresh_for = block.expires_at - now
        if fresh_for <= 0 and (self.max_stale == 0 or -fresh_for > self.max_stale):
            return "stale"
        if self.always_fetches or now - block.fetched_at > self.max_age:
            return "request"
        if self.min_fresh and fresh_for < self.min_fresh:
            return "request"
        return None


ANY = Freshness()
