"""The documentation pages.

The pages' scripts and styles come with the dependency offapi, so no page needs a CDN.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from flask import (
    Blueprint,
    Response,
    current_app,
    redirect,
    render_template,
    send_from_directory,
    url_for,
)
from werkzeug.wrappers import Response as BaseResponse

from movies.extensions import api

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
