"""Statements that SQLAlchemy compiles once, and that then run without it.

Parameters and rows are converted according to the types of their columns.
"""

from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

from sqlalchemy import Float
from sqlalchemy.dialects import postgresql, sqlite

DIALECTS: dict[str, Any] = {
    "postgresql": postgresql.psycopg.dialect(paramstyle="numeric_dollar"),  # type: ignore[no-untyped-call]
    "sqlite": sqlite.dialect(paramstyle="qmark"),
}


class Statement:
    """A statement that returns rows. Its parameters are the `bindparam`s that have no value.

    `variants`: other statements for dialects, by the name of the dialect.
    """

    def __init__(self, statement: Any, **variants: Any) -> None:
        self._variants = {**dict.fromkeys(DIALECTS, statement), **variants}
        self._compiled: dict[str, Compiled] = {}

    def compiled(self, dialect: str) -> "Compiled":
        """The statement for this dialect."""
        if dialect not in self._compiled:
            self._compiled[dialect] = Compiled(self._variants[dialect], dialect)
        return self._compiled[dialect]


class Compiled:
    """A statement for one dialect.

    `text`: SQL with positional parameters. `name`: made from the text, so that it means the same in
    every process, also behind a pooler. `row`: turns values of the driver into a named tuple.
    """

    def __init__(self, statement: Any, dialect_name: str) -> None:
        dialect = DIALECTS[dialect_name]
        compiled = statement.compile(dialect=dialect)
        self.text = str(compiled)
        self.name = f"movies_{sha256(self.text.encode()).hexdigest()[:24]}".encode()
        self.row = _row_maker(statement.exported_columns, dialect)
        self._fixed: list[Any] = []
        self._given: list[tuple[int, str, Callable[[Any], Any]]] = []
        for index, name in enumerate(compiled.positiontup):
            parameter = compiled.binds[name]
            dump = _dumper(parameter.type, dialect)
            self._fixed.append(None if parameter.required else dump(parameter.value))
            if parameter.required:
                self._given.append((index, name, dump))

    def values(self, parameters: dict[str, Any]) -> list[Any]:
        """The values of all parameters, in order, as the driver takes them."""
        values = self._fixed.copy()
        for index, name, dump in self._given:
            values[index] = dump(parameters[name])
        return values


def _row_maker(columns: Any, dialect: Any) -> Callable[[Sequence[Any]], Any]:
    """A function that turns the values of the driver into a named tuple of the columns."""
    row: Any = namedtuple("Row", columns.keys())  # type: ignore[misc]
    make: Callable[[Sequence[Any]], Any] = partial(tuple.__new__, row)  # faster than calling `row`
    loads = [
        (index, load)
        for index, column in enumerate(columns)
        if (load := _loader(column.type, dialect)) is not None
    ]
    if not loads:
        return make

    def convert(values: Sequence[Any]) -> Any:
        loaded = list(values)
        for index, load in loads:
            if loaded[index] is not None:
                loaded[index] = load(loaded[index])
        return make(loaded)

    return convert


def _loader(kind: Any, dialect: Any) -> Callable[[Any], Any] | None:
    """A function that converts a value of the driver to this type; None if it needs none."""
    if isinstance(kind, Float):  # both drivers return it; SQLAlchemy asks for the server's type
        return None
    loader: Callable[[Any], Any] | None = kind.dialect_impl(dialect).result_processor(dialect, None)
    return loader


def _dumper(kind: Any, dialect: Any) -> Callable[[Any], Any]:
    """A function that converts a value of this type to one that the driver accepts."""
    process = kind.dialect_impl(dialect).bind_processor(dialect)
    if dialect.name != "postgresql":
        return process or (lambda value: value)
    return _as_text if process is None else lambda value: _as_text(process(value))


def _as_text(value: Any) -> bytes | None:
    """A number, text, UUID, time, or list of those, as PostgreSQL reads it."""
    if value is None:
        return None
    if isinstance(value, list):
        value = f"{{{','.join(map(str, value))}}}"
    text = str(value).encode()
    if b"\0" in text:
        raise ValueError("PostgreSQL's text cannot contain NUL")
    return text
