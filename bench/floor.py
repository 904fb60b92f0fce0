"""The floor: routes that do almost nothing, on the same server, as a baseline for comparisons.

`GET /floor` verifies the access token and returns a page of ten movies from memory.
`PUT /floor` verifies the token and commits one INSERT over a pool like the API's.
"""

import os
import uuid
from typing import Any

import orjson
from flask import Flask, Response
from flask_jwt_extended import JWTManager, jwt_required
from sqlalchemy import create_engine, text

from bench.data import SAMPLE_PAGE
from config import Config

app = Flask("floor")
app.config.from_object(Config)
JWTManager(app).decode_key_loader(lambda _headers, _claims: Config.JWT_SECRET_KEY)
PAGE = orjson.dumps(SAMPLE_PAGE)
engine = create_engine(
    os.environ["FLOOR_DATABASE_URL"], pool_size=10, max_overflow=10, hide_parameters=True
)


@app.get("/floor")
@jwt_required()
def page() -> Response:
    """A page of ten movies, from memory."""
    return Response(PAGE, mimetype="application/json")


@app.put("/floor")
@jwt_required()
def insert() -> Any:
    """One committed INSERT."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO floor VALUES (:id)"), {"id": str(uuid.uuid4())})
    return {}
