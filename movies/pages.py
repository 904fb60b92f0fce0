"""The documentation pages: OpenAPI document, Swagger UI, ReDoc and the list of problems.

Scripts and styles are served from `assets`, so that no page needs another host. Those of Swagger UI
and ReDoc are in `assets/vendor`; `make vendor` updates them.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, redirect, render_template, send_from_directory, url_for
from markupsafe import Markup, escape
from werkzeug.wrappers import Response as BaseResponse

from movies import openapi
from movies.errors import PROBLEMS
from movies.extensions import api
from movies.problems import EXAMPLE_URL
from movies.urls import absolute_url

bp = Blueprint("pages", __name__, template_folder="templates")
bp.add_app_template_filter(openapi.in_words)

ASSETS = Path(__file__).parent / "assets"
VENDORED = ASSETS / "vendor"
YEAR = 365 * 24 * 3600  # seconds

NAVIGATION = (
    ("pages.redoc", "Reference"),
    ("pages.swagger_ui", "Try it out"),
    ("pages.problems", "Problems"),
    ("pages.openapi_json", "openapi.json"),
)


@bp.get("/")
def home() -> BaseResponse:
    """Redirect to the reference."""
    return redirect(url_for("pages.redoc"))


@bp.get("/api/schema/")
def schema() -> Response:
    """The OpenAPI document."""
    return Response(openapi.document(api, absolute_url("")), mimetype="application/json")


@bp.get("/api/schema/openapi.json")
def openapi_json() -> Response:
    """The OpenAPI document as a download."""
    response = schema()
    response.headers["Content-Disposition"] = 'attachment; filename="openapi.json"'
    return response


@bp.get("/api/schema/swagger-ui/")
def swagger_ui() -> str:
    """Swagger UI, to try out the API."""
    return _page("swagger-ui.html")


@bp.get("/api/schema/redoc/")
def redoc() -> str:
    """ReDoc, with the guide and the reference."""
    return _page("redoc.html")


@bp.get("/api/schema/problems/")
def problems() -> str:
    """The list of problems, from the table of errors."""
    listed = {(kind.status, kind.slug): kind for kind in PROBLEMS.values() if kind.slug}
    return _page("problems.html", problems=[listed[key] for key in sorted(listed)])


@bp.get("/api/schema/assets/<name>")
def asset(name: str) -> Response:
    """A script or style sheet. The names of vendored ones contain their version."""
    if name in _vendored().values():
        response = send_from_directory(VENDORED, name, max_age=YEAR)
        response.cache_control.public = True
        response.cache_control.immutable = True
        return response
    return send_from_directory(ASSETS, name, max_age=3600)


@bp.app_template_filter("code")
def _code(text: str) -> Markup:
    """The HTML of a text in which backticks mark code."""
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704


@bp.app_template_filter("example")
def _example(body: dict[str, Any]) -> str:
    """An example response as indented JSON, with the URL of this service."""
    return json.dumps(body, indent=2).replace(EXAMPLE_URL, absolute_url(""))


def _page(template: str, **values: object) -> str:
    return render_template(template, navigation=NAVIGATION, vendored=_vendored_url, **values)


def _vendored_url(name: str) -> str:
    return url_for("pages.asset", name=_vendored()[name])


@cache
def _vendored() -> dict[str, str]:
    """The versioned names of the vendored files, by their plain names."""
    packages = json.loads((ASSETS / "vendor.json").read_text())
    return {
        name: name.replace(".", f"-{package['version']}.", 1)
        for package in packages.values()
        for name in package["files"].values()
    }
