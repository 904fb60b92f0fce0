"""Prometheus metrics of the provider, correct across gunicorn's workers."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "november7_requests_total",
    "Requests sent to November 7, by outcome: ok, bad_status, bad_response, connection_failed,"
    " timed_out, invalid_request",
    ["outcome"],
)
REQUEST_SECONDS = Histogram(
    "november7_request_seconds",
    "Seconds that one request to November 7 took, successful or not",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
TRIES = Histogram(
    "november7_tries",
    "Requests to November 7 that one fetch of a page took",
    buckets=(1, 2, 3, 4, 5, 6, 7, 8),
)
LEFT_OUT = Counter(
    "november7_movies_left_out_total",
    "Movies left out of answers that were used, because they break the provider's contract",
)
CACHE = Counter("november7_cache_total", "Cache lookups, by result: hit, stale, miss", ["result"])
STORE_ERRORS = Counter(
    "november7_cache_store_errors_total",
    "Failures of the cache store, each of which counts as a miss",
)
CACHE_FAILING = Gauge(
    "november7_cache_failing",
    "1 while the last read or write of a process in the cache's store failed, else 0",
    multiprocess_mode="livemax",
)
FETCHES_JOINED = Counter(
    "november7_fetches_joined_total", "Callers that joined a fetch in progress"
)
IN_USE = Gauge("november7_bulkhead_in_use", "Fetches in progress", multiprocess_mode="livesum")
BULKHEAD_REFUSALS = Counter(
    "november7_bulkhead_refusals_total",
    "Searches refused because too many were waiting, or the fetch would have missed its deadline",
)
BREAKER_OPEN = Gauge(
    "november7_breaker_open",
    "1 while a process considers November 7 to be down, else 0",
    multiprocess_mode="livemax",
)
