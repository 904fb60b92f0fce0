"""OpenTelemetry traces of requests, statements, Redis commands and requests to November 7.

They are recorded if the standard OTEL_* environment variables name an exporter. Otherwise
OpenTelemetry is not imported. It is installed with requirements-otel.txt.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

from movies.database import watchers
from movies.extensions import db
from movies.logs import Trace, trace

EXPORTERS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
UNTRACED = "health/live,health/ready,metrics"


def is_wanted() -> bool:
    """Whether the environment asks for traces."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(os.environ.get(name) for name in EXPORTERS)


def init_app(app: Flask) -> None:
    """Trace an application if that is wanted. Exits if OpenTelemetry is not installed."""
    if not is_wanted():
        return
    try:
        from opentelemetry.instrumentation.flask import FlaskInstrumentor  # noqa: PLC0415
        from opentelemetry.instrumentation.redis import RedisInstrumentor  # noqa: PLC0415
        from opentelemetry.instrumentation.requests import RequestsInstrumentor  # noqa: PLC0415
    except ImportError:
        sys.exit(
            "Error: OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed. "
            "Install it with: pip install --require-hashes -r requirements-otel.txt"
        )
    provider = _provider(app.config["API_VERSION"])
    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app, tracer_provider=provider, excluded_urls=UNTRACED
    )
    RedisInstrumentor().instrument(tracer_provider=provider)
    RequestsInstrumentor().instrument(tracer_provider=provider)
    with app.app_context():
        for engine in db.engines.values():
            _trace_statements(engine, provider.get_tracer(__name__))
    app.before_request(_log_trace)


def _provider(version: str) -> Any:
    """A tracer provider. When the process ends, it sends the spans that were not sent yet."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    os.environ.setdefault("OTEL_SERVICE_NAME", "movies-api")
    provider = TracerProvider(resource=Resource.create({"service.version": version}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _trace_statements(engine: Engine, tracer: Any) -> None:
    """Record a span for each statement: its text with placeholders, never the values.

    There is an instrumentation package for SQLAlchemy, but none for 2.1 and newer.
    """
    from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415

    def begin(statement: str) -> Any:
        attributes = {"db.system": engine.dialect.name, "db.statement": statement}
        verb = statement.split(None, 1)[0].upper()
        return tracer.start_span(verb, kind=SpanKind.CLIENT, attributes=attributes)

    def fail(span: Any, error: BaseException) -> None:
        span.set_status(StatusCode.ERROR, type(error).__name__)
        span.end()

    @contextmanager
    def watch(running: Engine, statement: str, _values: Any) -> Iterator[None]:
        """Record a span for a statement that runs without SQLAlchemy's execution."""
        if running is not engine:
            yield
            return
        span = begin(statement)
        try:
            yield
        except Exception as error:
            fail(span, error)
            raise
        span.end()

    watchers.append(watch)

    @event.listens_for(engine, "before_cursor_execute")
    def before(connection: Connection, _cursor: Any, statement: str, *_arguments: Any) -> None:
        connection.info["span"] = begin(statement)

    @event.listens_for(engine, "after_cursor_execute")
    def after(connection: Connection, *_arguments: Any) -> None:
        connection.info.pop("span").end()

    @event.listens_for(engine, "handle_error")
    def on_error(failure: ExceptionContext) -> None:
        span = failure.connection and failure.connection.info.pop("span", None)
        if span:
            fail(span, failure.original_exception)


def _log_trace() -> None:
    """Have log lines name the recorded trace, even if the request had no `traceparent`."""
    from opentelemetry.trace import format_trace_id, get_current_span  # noqa: PLC0415

    context = get_current_span().get_span_context()
    if context.is_valid:
        flags = f"{int(context.trace_flags):02x}"
        trace.set(Trace(format_trace_id(context.trace_id), flags, ""))
