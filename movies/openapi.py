"""What the OpenAPI document says beyond the endpoints themselves.

OpenAPI 3.1: its schemas are JSON Schema, so live answers are validated against them as they are.
"""

from typing import Any

from flask_smorest import Api

from movies.web import IdConverter

DOCUMENT: dict[str, Any] = {
    "info": {
        "description": (
            "Search the movies that November 7 holds, and vote on them.\n\n"
            "Register, sign in, and send the access token as `Authorization: Bearer …`. "
            "Every path works with and without its trailing slash. Every error is "
            "`application/problem+json` (RFC 9457). Lists come in pages, whose `next` and "
            "`previous` are the links to follow."
        ),
    },
    "components": {
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        },
    },
    "servers": [{"url": "/"}],
}


def describe(api: Api) -> None:
    """Say what the ids in paths look like, and nothing of errors that endpoints don't declare."""
    api.DEFAULT_ERROR_RESPONSE_NAME = None
    api.register_converter(
        IdConverter,
        lambda _: {"type": "integer", "format": "int64", "minimum": 1, "maximum": 10**18 - 1},
    )
