"""The documentation pages, the probes and the metrics.

The pages' scripts and styles come with the dependency offapi, so no page needs a CDN.
"""

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from flask import (
    Blueprint,
    Response,
    current_app,
    redirect,
    render_template,
    send_from_directory,
    url_for,
)
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    generate_latest,
    multiprocess,
)
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response as BaseResponse

from movies import provider
from movies.errors import DATABASE_RETRY_AFTER, problem
from movies.extensions import api, db

bp = Blueprint("pages", __name__, template_folder="templates")

OWN_ASSETS = Path(__file__).parent / "assets"
ASSETS = {
    "swagger-ui.css": "swagger_style.css",
    "swagger-ui-bundle.js": "swagger_bundle.js",
}


@bp.get("/")
def home() -> BaseResponse:
    """Send a browser to the documentation."""
    return redirect(url_for("pages.swagger_ui"))


@bp.get("/api/schema/")
def schema() -> Response:
    """The OpenAPI document."""
    return cast(Response, current_app.json.response(api.spec.to_dict()))


@bp.get("/api/schema/swagger-ui/")
def swagger_ui() -> str:
    """Swagger UI, to try the API out."""
    return render_template("swagger-ui.html")


@bp.get("/api/schema/redoc/")
def redoc() -> str:
    """ReDoc, to read."""
    return render_template("redoc.html")


@bp.get("/api/schema/assets/<name>")
def asset(name: str) -> Response:
    """A script or style sheet of the pages."""
    if name == "redoc.js":
        response = Response(_redoc(), mimetype="text/javascript")
        response.cache_control.max_age = 3600
        return response
    if name in ASSETS:
        return send_from_directory(_offapi(), ASSETS[name], max_age=3600)
    return send_from_directory(OWN_ASSETS, name, max_age=3600)


@cache
def _redoc() -> bytes:
    """ReDoc, without the logo that it would load from its maker's CDN."""
    script = Path(_offapi(), "redoc.js").read_bytes()
    return script.replace(b"https://cdn.redoc.ly/redoc/", b"data:,")


def _offapi() -> str:
    """The directory of offapi, found and not imported: that would read all its nine megabytes."""
    spec = find_spec("offapi")
    locations = spec.submodule_search_locations if spec else None
    if not locations:
        raise RuntimeError("offapi is not installed")
    return locations[0]


@bp.get("/health/live")
def live() -> Any:
    """Whether this process answers."""
    return {"status": "live"}


@bp.get("/health/ready")
def ready() -> Any:
    """Whether this process can serve: 503 where the database, migrated, can't be had."""
    client = current_app.extensions["november7"]
    november7 = {
        "name": provider.describe(current_app),
        "state": "down" if client.breaker.is_open else "up",
    }
    try:
        db.session.execute(text("SELECT version_num FROM alembic_version"))
    except SQLAlchemyError:
        return problem(
            503,
            "The database can't be had, or has not been migrated.",
            {"Retry-After": str(DATABASE_RETRY_AFTER)},
            database="down",
            provider=november7,
        )
    return {"status": "ready", "database": "up", "provider": november7}


@bp.get("/metrics")
def metrics() -> Response:
    """What is counted, of all workers together, for Prometheus."""
    return Response(generate_latest(registry()), content_type=CONTENT_TYPE_LATEST)


def registry() -> CollectorRegistry:
    """The metrics of all workers of this server, or of this process where it is the only one."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    of_all = CollectorRegistry()
    multiprocess.MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
    return of_all
