"""Column types and SQL expressions that differ between PostgreSQL and SQLite: instants, the clock, sets of values."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    FunctionElement,
    ScalarSelect,
    TypeDecorator,
    all_,
    any_,
    bindparam,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

# Stands for "never" in columns of time: sorts after every real moment on both databases, unlike NULL.
FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)
# Stands for "not yet".
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware datetime: timestamptz on PostgreSQL, microseconds since 1970 on SQLite, where those sort rightly."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the database's own type."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(BigInteger())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Give the driver what it stores."""
        if value is None or dialect.name != "sqlite":
            return value
        return microseconds(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Read what SQLite keeps; asyncpg gives what is wanted, datetimes in UTC, and a look reads hundreds.

        https://magicstack.github.io/asyncpg/current/usage.html#type-conversion. SQLAlchemy would have only the hook
        below overridden, and calls that for every value there is.
        """
        return super().result_processor(dialect, coltype) if dialect.name == "sqlite" else None

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- as the base class has it
        """Read back microseconds."""
        return None if value is None else EPOCH + timedelta(microseconds=value)


def microseconds(moment: datetime) -> int:
    """Give what SQLite keeps of an aware datetime, for statements that bypass the column types."""
    return (moment - EPOCH) // _MICROSECOND


def as_json(numbers: Collection[int]) -> str:
    """Write numbers as JSON, as SQLite takes any number of them in one value."""
    return f"[{','.join(map(str, numbers))}]"


def storable_text(text: str, *, limit: int) -> str:
    """Make a text for people fit for both databases: no NUL, no lone surrogate, not longer than the limit."""
    return text[:limit].replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def one_of(connection: AsyncConnection, column: ColumnElement[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Compare a column with any number of values; one array on PostgreSQL, so that one statement serves them all."""
    if connection.dialect.name == "postgresql":
        return column == any_(literal(list(values), ARRAY(column.type)))
    return column.in_(values)


def one_of_named(dialect: str, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Compare a column with the values of a parameter: for statements that are built once."""
    if dialect == "postgresql":
        return column == any_(bindparam(name, type_=ARRAY(column.type)))
    return column.in_(bindparam(name, expanding=True, type_=column.type))


def none_of_named(dialect: str, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Keep a column apart from the values of a parameter."""
    if dialect == "postgresql":
        return column != all_(bindparam(name, type_=ARRAY(column.type)))
    return column.not_in(bindparam(name, expanding=True, type_=column.type))


class now(FunctionElement[datetime]):  # noqa: N801 -- an SQL function, named like one
    """The database's clock, moving also within a transaction, shifted by a number or a column of seconds."""

    name = "bucketpost_now"
    type = Instant()
    inherit_cache = True

    def __init__(self, seconds: ColumnElement[float] | float | None = None) -> None:
        """Take the shift in seconds."""
        super().__init__(*(() if seconds is None else (seconds,)))


class began(FunctionElement[datetime]):  # noqa: N801 -- as above
    """When the transaction began, shifted by seconds: no later than what any of its statements sees."""

    name = "bucketpost_began"
    type = Instant()
    inherit_cache = True

    def __init__(self, seconds: float) -> None:
        """Take the shift."""
        super().__init__(seconds)


def this_moment() -> ScalarSelect[datetime]:
    """Read the clock once a statement: PostgreSQL compares an index with that, but never with a moving clock."""
    return select(now()).scalar_subquery()


@compiles(now, "postgresql")
def _now_on_postgresql(element: now, compiler: SQLCompiler, **kwargs: Any) -> str:
    shift = compiler.process(element.clauses, **kwargs)
    return f"(clock_timestamp() + make_interval(secs => {shift}))" if shift else "clock_timestamp()"


@compiles(now, "sqlite")
def _now_on_sqlite(element: now, compiler: SQLCompiler, **kwargs: Any) -> str:
    # Registered on every connection: the host's clock in microseconds, which SQLite 3.40 cannot tell by itself.
    shift = compiler.process(element.clauses, **kwargs)
    return f"(bucketpost_now() + CAST(({shift}) * 1000000 AS INTEGER))" if shift else "bucketpost_now()"


@compiles(began, "postgresql")
def _began_on_postgresql(element: began, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"(transaction_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kwargs)}))"


# There a transaction that writes has the file to itself: nothing commits between its beginning and its end.
@compiles(began, "sqlite")
def _began_on_sqlite(element: began, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"(bucketpost_now() + CAST(({compiler.process(element.clauses, **kwargs)}) * 1000000 AS INTEGER))"
