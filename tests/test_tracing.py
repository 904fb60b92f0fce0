"""OpenTelemetry traces, received by a collector of our own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from helpers import eventually
from launcher import ROOT
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from redis import Redis
from served import Served, served
from services import postgresql_database

from stand_in.server import StandIn

pytestmark = pytest.mark.slow

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


class Collector(ThreadingHTTPServer):
    """Receives traces by OTLP over HTTP; `spans` are those received so far."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.spans: list[Any] = []


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans.extend(scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Write nothing."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def app(
    request: pytest.FixtureRequest,
    collector: Collector,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    settings = {
        "MOVIES_CONFIG": "development",
        "REDIS_URL": redis_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",  # milliseconds
    }
    with ExitStack() as stack:
        provider = stack.enter_context(StandIn())
        if request.param == "postgresql":
            settings["DATABASE_URL"] = stack.enter_context(postgresql_database("traced"))
        directory = tmp_path_factory.mktemp("served")
        with served(directory, **settings, NOVEMBER7_URL=provider.url) as running:
            yield running
    Redis.from_url(redis_url).flushdb()


def test_a_search_is_traced_down_to_statements_redis_and_the_provider(
    app: Served, collector: Collector
) -> None:
    collector.spans.clear()
    app.search("traced", headers={**app.headers, "traceparent": TRACEPARENT})

    def kinds() -> set[str]:
        spans = [span for span in collector.spans if span.trace_id.hex() == TRACE_ID]
        keys = {attribute.key for span in spans for attribute in span.attributes}
        systems = {
            attribute.value.string_value
            for span in spans
            for attribute in span.attributes
            if attribute.key == "db.system"
        }
        return systems | (keys & {"http.route", "http.url"})

    database = "postgresql" if app.environment["DATABASE_URL"] else "sqlite"
    expected = {"http.route", "http.url", "redis", database}
    assert eventually(lambda: kinds() >= expected, within=30), kinds()


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_a_request_without_a_trace_begins_one_that_the_log_names(
    app: Served, collector: Collector
) -> None:
    app.search("begins", headers={**app.headers, "X-Request-ID": "begins"})
    assert eventually(lambda: 'request_id="begins"' in app.log, within=30)
    [line] = [
        line for line in app.log.splitlines() if 'request_id="begins"' in line and "GET" in line
    ]
    trace_id = line.partition('trace_id="')[2].partition('"')[0]
    assert eventually(
        lambda: trace_id in {span.trace_id.hex() for span in collector.spans}, within=30
    )


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_probes_are_not_traced(app: Served, collector: Collector) -> None:
    assert app.ask("GET", "/health/ready").ok
    app.search("after the probe")
    assert not any("health" in span.name for span in collector.spans)


def started(**environment: str) -> Any:
    """What a start of the application with these settings prints and ends with."""
    names = "[name for name in sys.modules if name.startswith('opentelemetry.')]"
    return subprocess.run(
        [sys.executable, "-c", f"import json, sys, wsgi; print(json.dumps({names}))"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "MOVIES_ENV_FILE": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_is_instrumented_without_the_variables(tmp_path: Path) -> None:
    """redis-py imports the API by itself if it is installed."""
    modules = json.loads(started(INSTANCE_DIR=str(tmp_path)).stdout)
    assert not any("instrumentation." in name or "exporter" in name for name in modules)


def test_a_missing_package_exits_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").touch()  # takes the place of the package
    failed = started(
        INSTANCE_DIR=str(tmp_path),
        PYTHONPATH=str(tmp_path),
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
    )
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("Error: OTEL_EXPORTER_OTLP_ENDPOINT is set")
    assert "Traceback" not in failed.stderr
