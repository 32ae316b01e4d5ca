"""The connection to the database: one engine, read and write transactions, errors translated. No statement of ours."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import unquote, urlsplit

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from app.domain.errors import SettingsError, StoreError, StoreRefused, StoreUnavailable

Dialect = Literal["postgresql", "sqlite"]
T = TypeVar("T")

CONNECT_SECONDS: Final = 5.0
# Bounds how long a statement, and with it a transaction of a few, can take.
COMMAND_SECONDS: Final = 4.0
# A transaction waits for nothing but the database: one that is silent for so long is of a process that hangs or was cut
# off, and holds the locks of lanes that others are to take over when its leases end.
IDLE_SECONDS: Final = 5.0
POOL_WAIT_SECONDS: Final = 10.0
SQLITE_BUSY_SECONDS: Final = 5.0
WRITES_IN_ALL: Final = 5

# Classes of SQLSTATE that find fault with the data itself: cardinality, data exception, integrity, program limits.
_ABOUT_THE_DATA: Final = frozenset({"21", "22", "23", "54"})
# The database asks to run the transaction again: serialization, deadlock, a plan that went stale.
_ASKS_AGAIN: Final = frozenset({"40001", "40P01", "0A000"})


class Database:
    """One database, reached through a pool. SQLite's writers take turns here rather than at the file's lock."""

    def __init__(self, url: str, *, pool_size: int = 10, command_seconds: float | None = COMMAND_SECONDS) -> None:
        """Take a URL as the settings give it; nothing is connected yet. Raises SettingsError.

        `command_seconds` bounds each statement on PostgreSQL; without it, migrations and upkeep take what they take.
        """
        scheme = urlsplit(url).scheme
        if scheme == "sqlite":
            self.dialect: Dialect = "sqlite"
            self.path: Path | None = _sqlite_path(url)
            self.engine = _sqlite_engine(self.path, pool_size)
        elif scheme in ("postgresql", "postgres"):
            self.dialect = "postgresql"
            self.path = None
            self.engine = _postgresql_engine(url, pool_size, command_seconds)
        else:
            raise SettingsError(
                f"BUCKETPOST_DATABASE_URL begins with {scheme or 'nothing'}: give sqlite:///file.db or postgresql://…"
            )
        self._reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writer = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection that changes nothing. Raises StoreUnavailable, StoreRefused.

        On PostgreSQL each statement stands alone: under READ COMMITTED it sees its own moment in a transaction too, and
        BEGIN and ROLLBACK would be two more round trips for each look at the lanes. On SQLite it is one snapshot.
        """
        with _translated():
            if self.dialect == "postgresql":
                async with self._reading.connect() as connection:
                    yield connection
                return
            async with self.engine.connect() as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that commits when the block ends well. Raises StoreUnavailable, StoreRefused.

        On SQLite it holds the write lock from the start: a read that turns into a write would fail at once instead of
        waiting.
        """
        with _translated():
            if self.dialect == "postgresql":
                async with self.engine.begin() as connection:
                    yield connection
                return
            async with self._writer, self.engine.connect() as plain:
                connection = await plain.execution_options(bucketpost_writes=True)
                async with connection.begin():
                    yield connection

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection whose transactions are the caller's affair. Raises StoreUnavailable, StoreRefused."""
        with _translated():
            async with self.engine.connect() as connection:
                yield connection

    async def write_again(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run work in a write transaction of its own; a deadlock or the like runs it again, a few times.

        Raises StoreUnavailable, StoreRefused.
        """
        for _ in range(WRITES_IN_ALL - 1):
            try:
                async with self.write() as connection:
                    return await work(connection)
            except StoreError as error:
                if sqlstate(error) not in _ASKS_AGAIN:
                    raise
        async with self.write() as connection:
            return await work(connection)

    async def aclose(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


@asynccontextmanager
async def trial(connection: AsyncConnection) -> AsyncIterator[None]:
    """Try something inside a transaction and undo it, whatever comes of it. Raises StoreUnavailable, StoreRefused."""
    with _translated():
        savepoint = await connection.begin_nested()
        try:
            yield
        finally:
            await savepoint.rollback()


def sqlstate(error: BaseException) -> str | None:
    """Find PostgreSQL's code for what went wrong, in an error of ours or of a driver; None where there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, asyncpg.PostgresError):
            code: str | None = cause.sqlstate
            return code
        cause = cause.__cause__ or getattr(cause, "orig", None)
    return None


def is_partition_missing(error: BaseException) -> bool:
    """Tell whether a row found no partition of its table."""
    return sqlstate(error) == "23514" and "no partition of relation" in str(error)


class _translated:  # noqa: N801 -- reads as a block
    """Turns the drivers' errors into ours at the edge of a transaction."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, StoreError):
            return
        if _finds_fault_with_the_data(error):
            raise StoreRefused(_sentence(error)) from error
        if isinstance(error, _DRIVERS_ERRORS):
            # Also what the server says of itself: shutting down, out of space, too many connections, read only.
            raise StoreUnavailable(_sentence(error)) from error


_DRIVERS_ERRORS: Final = (SQLAlchemyError, OSError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError)


def _finds_fault_with_the_data(error: BaseException) -> bool:
    # A text that is no Unicode or a number of more than 64 bits: the drivers say so before anything is sent.
    if isinstance(error, (UnicodeError, OverflowError)):
        return True
    if not isinstance(error, StatementError):
        return False
    code = sqlstate(error)
    if code is not None:
        return code[:2] in _ABOUT_THE_DATA
    if not isinstance(error, DBAPIError):
        return isinstance(error.orig, ValueError)
    driver = error.orig.__cause__ if error.orig is not None else None
    return isinstance(error, (DataError, IntegrityError)) or (
        isinstance(driver, asyncpg.InterfaceError) and isinstance(driver, ValueError)
    )


def _sentence(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    return lines[0][:500] if lines else type(original).__name__


# An acknowledged event is one on the disk, whatever a role's or a database's default says. Other values stay: all wait
# for this server's disk, and which standbys are waited for is the operator's choice.
_COMMIT_DURABLY: Final = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""


def _postgresql_engine(url: str, pool_size: int, command_seconds: float | None) -> AsyncEngine:
    async def connect() -> Any:
        # asyncpg reads the URL itself: libpq's ?host=/directory and ?sslmode= then mean what libpq says.
        try:
            connection = await asyncpg.connect(
                url,
                timeout=CONNECT_SECONDS,
                command_timeout=command_seconds,
                server_settings={
                    "application_name": "bucketpost",
                    # Where the network hangs, the driver's own limit ends nothing here: what waits for a lock would get
                    # it from the next silent one, and be silent in its turn, one after the other.
                    "statement_timeout": f"{command_seconds or 0:g}s",
                    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS:g}s",
                    "timezone": "UTC",
                    # Every statement here walks an index in its order and stops early, or looks up keys. A bitmap loses
                    # the order: with old statistics one fetch then reads and sorts a lane's whole backlog.
                    "enable_bitmapscan": "off",
                    # A plan made while a table was small is kept for a while after it has grown: a settle would then
                    # read all of the outbox. Tables that have nothing but rows to read are read so all the same.
                    "enable_seqscan": "off",
                    # Would think of such a read as dear, and compile it.
                    "jit": "off",
                    # No value given to a statement here asks for another plan, and each statement names its own index.
                    # Left to itself the server plans anew at every call once the statistics tell of large tables.
                    "plan_cache_mode": "force_generic_plan",
                },
            )
        except (ValueError, asyncpg.ClientConfigurationError) as error:
            raise SettingsError(f"BUCKETPOST_DATABASE_URL cannot be understood: {error}") from error
        try:
            await connection.execute(_COMMIT_DURABLY, timeout=CONNECT_SECONDS)
        except BaseException:
            connection.terminate()
            raise
        return connection

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_use_lifo=True,
    )


def _sqlite_engine(path: Path, pool_size: int) -> AsyncEngine:
    if not path.exists():
        # Signing keys stand in it: for this user alone, like the files SQLite puts beside it, which take its mode.
        try:
            path.touch(mode=0o600)
        except OSError as error:
            raise SettingsError(
                f"BUCKETPOST_DATABASE_URL names {path}, which cannot be made ({error.strerror}): choose another place"
            ) from error
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        pool_size=min(pool_size, 5),
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        connect_args={"timeout": SQLITE_BUSY_SECONDS, "isolation_level": None},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.create_function("bucketpost_now", 0, lambda: time.time_ns() // 1000)
        cursor = connection.cursor()
        _write_ahead(cursor)
        # FULL: an acknowledged event survives a power cut, not only a killed process.
        for pragma in ("synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("bucketpost_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _write_ahead(cursor: Any) -> None:
    # SQLite does not wait by itself while another connection turns the same new file to WAL: the one that must upgrade
    # its lock is told "locked" at once, whatever the busy timeout (https://sqlite.org/c3ref/busy_handler.html).
    deadline = time.monotonic() + SQLITE_BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            await_only(asyncio.sleep(0.02))
        else:
            return


def _sqlite_path(url: str) -> Path:
    split = urlsplit(url)
    raw = unquote(split.path)
    if split.netloc or not raw.startswith("/") or raw == "/":
        raise SettingsError(f"BUCKETPOST_DATABASE_URL is {url}: give sqlite:///relative.db or sqlite:////absolute.db")
    path = Path(raw[1:])
    if not path.parent.is_dir():
        raise SettingsError(
            f"BUCKETPOST_DATABASE_URL names {path}, but there is no directory {path.parent}: make it first"
        )
    if path.is_dir():
        raise SettingsError(f"BUCKETPOST_DATABASE_URL names {path}, which is a directory: name a file in it")
    return path.absolute()
