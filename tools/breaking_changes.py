"""Find changes of the OpenAPI document that break clients of the last release; `make lint` runs it.

The last release is the newest tag `v*`. A change breaks clients if it removes an operation, a
success status or a member of a response, or if a request needs more than before. Nothing is
compared before the first release.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCUMENT = "docs/openapi.json"
ROOT = Path(__file__).resolve().parents[1]

Document = dict[str, Any]


def main() -> None:
    """Print the changes. Exits with 1 if there are any."""
    release = git("describe", "--tags", "--abbrev=0", "--match", "v*")
    if release is None:
        print("No release to compare the contract with.")
        return
    published = git("show", f"{release}:{DOCUMENT}")
    if published is None:
        sys.exit(f"Error: {release} has no {DOCUMENT}")
    found = list(breaking_changes(json.loads(published), json.loads((ROOT / DOCUMENT).read_text())))
    for change in found:
        print(f"{release} is broken: {change}")
    sys.exit(1 if found else 0)


def git(*command: str) -> str | None:
    """What a git command prints; None if it fails."""
    done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607
    return done.stdout.strip() if done.returncode == 0 else None


def breaking_changes(old: Document, new: Document) -> Iterator[str]:
    """The changes from one document to another that break clients, in words."""
    for path, item in old["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            name = f"{method.upper()} {path}"
            current = new["paths"].get(path, {}).get(method)
            if current is None:
                yield f"{name} is gone"
                continue
            yield from _requests(name, old, operation, new, current)
            yield from _responses(name, old, operation, new, current)


def _requests(
    name: str, old: Document, was: Document, new: Document, is_: Document
) -> Iterator[str]:
    before, after = _required_parameters(was), _required_parameters(is_)
    for parameter in sorted(after - before):
        yield f"{name} requires the parameter {parameter}"
    before_body, after_body = _body(old, was), _body(new, is_)
    for member in sorted(
        set(after_body.get("required", ())) - set(before_body.get("required", ()))
    ):
        yield f"{name} requires the member {member}"
    for member in sorted(
        set(before_body.get("properties", ())) - set(after_body.get("properties", ()))
    ):
        yield f"{name} does not accept the member {member}"


def _responses(
    name: str, old: Document, was: Document, new: Document, is_: Document
) -> Iterator[str]:
    for status, response in was["responses"].items():
        if not status.startswith("2"):
            continue
        current = is_["responses"].get(status)
        if current is None:
            yield f"{name} does not respond with {status}"
            continue
        before, after = _members(old, response), _members(new, current)
        for member in sorted(before - after):
            yield f"{name} does not return {member}"


def _required_parameters(operation: Document) -> set[str]:
    return {each["name"] for each in operation.get("parameters", ()) if each.get("required")}


def _body(document: Document, operation: Document) -> Document:
    return _schema(document, operation.get("requestBody", {}))


def _members(document: Document, response: Document) -> set[str]:
    return set(_paths(document, _schema(document, _resolve(document, response)), ""))


def _schema(document: Document, described: Document) -> Document:
    """The schema of the first media type of a body; empty if there is no body."""
    for media_type in described.get("content", {}).values():
        return _resolve(document, media_type.get("schema", {}))
    return {}


def _paths(document: Document, schema: Document, prefix: str) -> Iterator[str]:
    """The dotted names of all members of a schema."""
    schema = _resolve(document, schema)
    for choice in schema.get("anyOf", ()):
        yield from _paths(document, choice, prefix)
    if "items" in schema:
        yield from _paths(document, schema["items"], prefix)
    for name, member in schema.get("properties", {}).items():
        yield f"{prefix}{name}"
        yield from _paths(document, member, f"{prefix}{name}.")


def _resolve(document: Document, schema: Document) -> Document:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


if __name__ == "__main__":
    main()
