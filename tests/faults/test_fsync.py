"""F29: every push that is answered 2xx had been written to the disk before: on PostgreSQL and on SQLite."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import aiohttp
import asyncpg
import pytest

from tests.bed import left_out, s3_messages
from tests.bed.faults.figures import Figures, Scale
from tests.bed.gateway import Gateway
from tests.bed.postgres import EmbeddedPostgres
from tests.bed.process import until

# The default is the wrong one, and nobody else syncs on a session's behalf soon.
LAZY: Final = {"fsync": "on", "synchronous_commit": "off", "wal_writer_delay": "10s", "autovacuum": "off"}
SYNC: Final = re.compile(r"(?:fsync|fdatasync)\(\d+<[^>]*\.db-wal>\)\s+= 0|(?:fsync|fdatasync) resumed>\)\s+= 0")
ANSWER: Final = "HTTP/1.1 200 OK"


@pytest.fixture
async def lazy_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """Start a PostgreSQL of its own that acknowledges before it syncs, unless a session asks for more."""
    server = EmbeddedPostgres(settings=LAZY)
    try:
        await server.start()
        yield server
    finally:
        await server.close()


async def test_postgresql_has_synced_before_the_answer(
    lazy_postgres: EmbeddedPostgres, make_gateway: Callable[..., Gateway], figures: Figures, scale: Scale
) -> None:
    """By the moment of its 2xx, the commit of each event lies before the place up to which the server has synced.

    That place is asked for after each answer; where the commits lie, pg_waldump tells at the end. Commits of a session
    with the server's own default are looked at in the same way, and do not pass: so the experiment can fail.
    """
    pushes = scale.of(short=30, long=500)
    gateway = make_gateway(database_url=lazy_postgres.url)
    gateway.start()
    await gateway.ready(within=60)
    session = await asyncpg.connect(lazy_postgres.url, timeout=10)
    try:
        begin = await session.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        synced = [
            await session.fetchval("SELECT pg_current_wal_flush_lsn()::text") async for _ in _pushes(gateway, pushes)
        ]
        rows = await session.fetch("SELECT xmin::text FROM event ORDER BY received_key")
        lazily = [await _commit_lazily(session) for _ in range(pushes)]
        await session.execute("CHECKPOINT")
        end = await session.fetchval("SELECT pg_current_wal_flush_lsn()::text")
    finally:
        await session.close(timeout=10)
    commits = await asyncio.to_thread(_commits, lazy_postgres, begin, end)

    late = sum(_place(at) <= commits[row["xmin"]] for at, row in zip(synced, rows, strict=True))
    late_by_default = sum(_place(at) <= commits[number] for number, at in lazily)
    figures.report(
        "F29 PostgreSQL",
        {"answered 2xx": pushes, "synced before": pushes - late, "unsynced with the default": late_by_default},
        {
            "every answer comes after its sync": late == 0 and len(rows) == pushes,
            "the experiment can tell": late_by_default > 0,
        },
    )


async def test_sqlite_has_synced_before_the_answer(
    sqlite_url: str, make_gateway: Callable[..., Gateway], figures: Figures, scale: Scale, tmp_path: Path
) -> None:
    """Between each 2xx and the one before it, the process has synced SQLite's log: strace looks at both."""
    if shutil.which("strace") is None:
        left_out.leave_out("Durability on SQLite", ["strace"])
    pushes = scale.of(short=30, long=500)
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,write,writev,sendto,sendmsg"
    # -D: the tracer stands aside, and what is started and killed is the gateway itself.
    under = ["strace", "-D", "-f", "-q", "-y", "-s", "32", "-e", calls, "-o", str(trace)]
    gateway = make_gateway(database_url=sqlite_url, only="api,ingest", under=under)
    gateway.start()
    await gateway.ready(within=120)

    async for _ in _pushes(gateway, pushes):
        pass
    await gateway.terminate()
    await until(lambda: asyncio.to_thread(_is_over, trace), within=30, what="strace has written everything")

    syncs = _syncs_before_answers(_read(trace))[-pushes:]
    figures.report(
        "F29 SQLite",
        {"answered 2xx": len(syncs), "synced before": sum(each > 0 for each in syncs), "syncs in all": sum(syncs)},
        {"every answer comes after its sync": len(syncs) == pushes and all(syncs)},
    )


async def _pushes(gateway: Gateway, count: int) -> AsyncIterator[None]:
    """Push one event after the other, each answered 200 before the block runs for it."""
    source = await gateway.api.post("/sources", {"name": "store", "kind": "http", "config": {}})
    headers = {"Authorization": f"Bearer {source['token']}"}
    url = f"{gateway.url}/v1/ingest/s3/{source['id']}"
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=15)) as session:
        for number in range(count):
            async with session.post(url, data=s3_messages.message_for("photos", f"{number:06}.jpg")) as answer:
                assert answer.status == 200
            yield


async def _commit_lazily(session: asyncpg.Connection) -> tuple[str, str]:
    """Commit with the server's default; gives the transaction and the place synced up to just after it."""
    async with session.transaction():
        number = await session.fetchval("SELECT pg_current_xact_id()::text")
        await session.execute("UPDATE tenant SET name = name")
    return number, await session.fetchval("SELECT pg_current_wal_flush_lsn()::text")


def _commits(server: EmbeddedPostgres, begin: str, end: str) -> dict[str, int]:
    """Read where each transaction's commit lies in the write-ahead log."""
    program = server.programs / "pg_waldump"
    where = ["--path", str(server.data / "pg_wal"), "--start", begin, "--end", end]
    listed = subprocess.run(  # noqa: S603 -- the wheel's own program
        [program, "--rmgr=Transaction", *where], capture_output=True, text=True, timeout=60, check=True
    )
    found = re.findall(r"tx:\s+(\d+), lsn: (\w+/\w+),.*desc: COMMIT", listed.stdout)
    return {number: _place(lsn) for number, lsn in found}


def _place(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def _is_over(trace: Path) -> bool:
    return "+++ exited with" in _read(trace)[-2000:]


def _read(trace: Path) -> str:
    return trace.read_text(errors="replace")


def _syncs_before_answers(trace: str) -> list[int]:
    """Count, for each answer 200 in the order they were sent, the syncs since the one before."""
    counts, syncs = [], 0
    for line in trace.splitlines():
        if SYNC.search(line):
            syncs += 1
        elif ANSWER in line:
            counts.append(syncs)
            syncs = 0
    return counts
