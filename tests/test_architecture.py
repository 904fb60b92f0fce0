"""Which modules may import which, and that no private name of a library is used."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the bottom to the top: code imports its own layer and those below it.
LAYERS = [
    {
        "addresses",
        "database",
        "november7",
        "logs",
        "urls",
        "schemas",
        "metrics",
        "counters",
        "representations",
        "headers",
    }
    | {"client_socket", "port", "wal", "writers"},
    {"extensions", "settings", "problems", "access_log"},
    {"limits", "paging", "provider", "refusals", "tracing"},
    {"api"},
    {"auth"},
    {"movies"},
    {"users"},
    {
        "errors",
        "error_handlers",
        "web",
        "openapi",
        "pages",
        "health",
        "cli",
        "worker",
        "create_app",
    },
]
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
OWN = {"self", "cls", "super()"}


def modules(folder: str) -> Iterator[tuple[str, ast.Module]]:
    """The dotted name and the syntax tree of every module in a folder of the checkout."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
    """What a module imports, with the name that it takes from there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(name: str) -> str:
    """The module or package in `movies` that contains the module `name`."""
    return [*name.split("."), "create_app"][1]


PRODUCT = dict(modules("movies"))


def test_every_module_has_a_layer() -> None:
    assert {package_of(name) for name in PRODUCT} == set(RANKS)


@pytest.mark.parametrize("name", PRODUCT)
def test_a_module_imports_nothing_from_above_it(name: str) -> None:
    ours = [found for found in imports(PRODUCT[name]) if found.startswith("movies.")]
    assert [found for found in ours if RANKS[package_of(found)] > RANKS[package_of(name)]] == []


def test_the_provider_knows_neither_the_web_nor_the_database() -> None:
    found = {
        package.split(".")[0] if not package.startswith("movies.") else package_of(package)
        for name, tree in PRODUCT.items()
        if package_of(name) == "november7"
        for package in imports(tree)
    }
    assert found & {"flask", "werkzeug", "flask_sqlalchemy", "sqlalchemy", "database"} == set()


def test_only_the_provider_imports_requests_cache() -> None:
    found = {
        package_of(name)
        for name, tree in PRODUCT.items()
        if "requests_cache" in str(list(imports(tree)))
    }
    assert found == {"november7"}


def test_the_product_imports_nothing_that_only_developers_use() -> None:
    developers = {"stand_in", "tests", "bench", "tools"}
    found = {package.split(".")[0] for tree in PRODUCT.values() for package in imports(tree)}
    assert found & developers == set()


def private_names(tree: ast.Module) -> Iterator[str]:
    """Private names that are imported, or read from another object than `self` and `super()`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.name.startswith("_"))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) not in OWN:
            yield node.attr


def test_the_product_uses_no_private_name_of_a_library() -> None:
    found = {
        f"{name}: {private}"
        for name, tree in PRODUCT.items()
        for private in private_names(tree)
        if private.startswith("_") and not private.startswith("__")
    }
    assert found == set()
