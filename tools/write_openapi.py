"""Write the OpenAPI document to docs/openapi.json (`make openapi`)."""

from pathlib import Path

from movies import create_app, openapi
from movies.extensions import api

TARGET = Path(__file__).resolve().parents[1] / "docs/openapi.json"

if __name__ == "__main__":
    create_app("testing")
    TARGET.write_bytes(openapi.document(api) + b"\n")
    print(f"{TARGET.name} is written")
