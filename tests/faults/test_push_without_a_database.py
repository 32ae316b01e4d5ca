"""Pushes while PostgreSQL is away: senders are told to try again, in time, and nothing is lost or heard twice."""

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import TypeVar

import aiohttp

from app.store.database import Database
from tests.bed import s3_messages
from tests.bed.gateway import Gateway
from tests.bed.postgres import EmbeddedPostgres
from tests.bed.process import until
from tests.bed.pushing import add_push_source

Made = TypeVar("Made")


async def test_pushes_during_an_outage_are_answered_503_and_recorded_once(
    own_postgres: EmbeddedPostgres, make_gateway: Callable[..., Gateway]
) -> None:
    """A known source: 503 with Retry-After within the time; sent again after the outage, each change is one event."""
    gateway = make_gateway(database_url=own_postgres.url)
    gateway.start()
    await gateway.ready()
    source = await on(own_postgres.url, add_push_source)
    bodies = [s3_messages.message_for("photos", f"{number}.jpg") for number in range(5)]

    async with aiohttp.ClientSession(
        gateway.url, headers={"Authorization": f"Bearer {source.token}"}, timeout=aiohttp.ClientTimeout(total=20)
    ) as session:

        async def push(body: str) -> tuple[int, str | None]:
            async with session.post(source.path, data=body) as answer:
                return answer.status, answer.headers.get("Retry-After")

        before = await push(bodies[0])
        await own_postgres.stop("immediate")
        during = await asyncio.gather(*(push(body) for body in bodies))
        await own_postgres.start()
        await gateway.ready(within=30)
        after = await asyncio.gather(*(push(body) for body in bodies))

    assert before == (200, None)
    assert during == [(503, "1")] * 5
    assert after == [(200, None)] * 5
    assert len((await gateway.api.get("/events"))["data"]) == 5


async def test_no_token_is_ever_logged(database_url: str, make_gateway: Callable[..., Gateway]) -> None:
    """Not at the most talkative level, not of refused, crashed, aborted or unparsable requests."""
    gateway = make_gateway(database_url=database_url, env={"BUCKETPOST_LOG__LEVEL": "debug"})
    gateway.start()
    await gateway.ready()
    source = await on(database_url, add_push_source)
    wrong = "wrong-token-of-somebody"
    good = s3_messages.message_for("photos", "cat.jpg")

    async with aiohttp.ClientSession(gateway.url, timeout=aiohttp.ClientTimeout(total=30)) as session:

        async def push(path: str, token: str | None = None, body: bytes = b"{") -> int:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            async with session.post(path, data=BytesIO(body), headers=headers) as answer:
                return answer.status

        statuses = [
            await push(source.path, source.token),
            await push(f"{source.path}/{source.token}", body=good.encode()),
            await push(f"{source.path}/{source.token}/", body=bytes(2_000_000)),
            await push(f"{source.path}/{source.token}/more"),
            await push(f"{source.path.replace('/ingest', '//ingest')}/{source.token}"),
            await push(f"{source.path}/{wrong}"),
            await push(source.path, wrong),
        ]
        await on(database_url, hide_events)
        crashed = await push(f"{source.path}/{source.token}", body=s3_messages.message_for("p", "x").encode())
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"POST {source.path}/{source.token} HTTP/9.9\r\n\r\n".encode())
    writer.close()
    await until(lambda: _says(gateway, "Invalid HTTP request"), within=10, what="the unparsable request is logged")
    await gateway.kill()

    said = gateway.process.stdout() + gateway.process.stderr()
    assert statuses == [200, 200, 413, 404, 404, 401, 401]
    assert crashed == 503
    assert "push.refused" in said
    assert source.token not in said
    assert wrong not in said


async def on(url: str, work: Callable[[Database], Awaitable[Made]]) -> Made:
    """Do something to a database beside the gateway."""
    database = Database(url)
    try:
        return await work(database)
    finally:
        await database.aclose()


async def hide_events(database: Database) -> None:
    """Let whatever records events fail."""
    async with database.write() as connection:
        await connection.exec_driver_sql("ALTER TABLE event RENAME TO elsewhere")


async def _says(gateway: Gateway, words: str) -> bool:
    return words in gateway.process.stderr()
