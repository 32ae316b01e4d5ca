"""The connection to the database: one engine, read and write transactions, errors translated. No statement of ours."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.domain.errors import SettingsError, StoreRefused, StoreUnavailable

Dialect = Literal["postgresql", "sqlite"]

CONNECT_SECONDS: Final = 5.0
# Bounds how late a commit can come after its statement began; a lease must be longer than twice this and 2 s.
COMMAND_SECONDS: Final = 4.0
POOL_WAIT_SECONDS: Final = 10.0
SQLITE_BUSY_SECONDS: Final = 5.0


class Database:
    """One database, reached through a pool. SQLite's writers take turns here rather than at the file's lock."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """Take a URL as the settings give it; nothing is connected yet. Raises SettingsError."""
        scheme = urlsplit(url).scheme
        if scheme == "sqlite":
            self.dialect: Dialect = "sqlite"
            self.path: Path | None = _sqlite_path(url)
            self.engine = _sqlite_engine(self.path, pool_size)
        elif scheme in ("postgresql", "postgres"):
            self.dialect = "postgresql"
            self.path = None
            self.engine = _postgresql_engine(url, pool_size)
        else:
            raise SettingsError(
                f"BUCKETPOST_DATABASE_URL begins with {scheme or 'nothing'}: give sqlite:///file.db or postgresql://…"
            )
        self._writer = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that changes nothing. Raises StoreUnavailable, StoreRefused."""
        with _translated():
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

    async def aclose(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


class _translated:  # noqa: N801 -- reads as a block
    """Turns the drivers' errors into ours at the edge of a transaction."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (DataError, IntegrityError)):
            raise StoreRefused(_sentence(error)) from error
        if isinstance(error, (OperationalError, InterfaceError, InternalError)):
            raise StoreUnavailable(_sentence(error)) from error
        if isinstance(error, DBAPIError):
            # asyncpg's own base class: a statement the server turned down, or a connection that broke under it.
            broken = error.connection_invalidated or isinstance(error.orig, (OSError, TimeoutError))
            raise (StoreUnavailable if broken else StoreRefused)(_sentence(error)) from error
        if isinstance(error, StatementError) and isinstance(error.orig, (UnicodeError, OverflowError, ValueError)):
            raise StoreRefused(_sentence(error)) from error
        if isinstance(error, (SQLAlchemyError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            raise StoreUnavailable(_sentence(error)) from error


def _sentence(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    return lines[0][:500] if lines else type(original).__name__


def _postgresql_engine(url: str, pool_size: int) -> AsyncEngine:
    async def connect() -> Any:
        # asyncpg reads the URL itself: libpq's ?host=/directory and ?sslmode= then mean what libpq says.
        return await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            server_settings={
                "application_name": "bucketpost",
                "statement_timeout": "30s",
                "idle_in_transaction_session_timeout": "30s",
                "timezone": "UTC",
            },
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_use_lifo=True,
    )


def _sqlite_engine(path: Path, pool_size: int) -> AsyncEngine:
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
        # FULL: an acknowledged event survives a power cut, not only a killed process.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("bucketpost_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


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
    return path.absolute()
