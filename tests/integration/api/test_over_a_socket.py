"""The API behind uvicorn: what only shows with a server and a connection between."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from io import BytesIO

import aiohttp
import pytest
import uvicorn

from app.api.app import ApiState, create_app
from app.store.database import Database
from tests.integration.api.conftest import Api

MEBIBYTE = 1024 * 1024
SOURCE = {"name": "x", "kind": "sqs", "config": {"queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/q"}}


@pytest.fixture
async def session(api: Api, make_state: Callable[[Database], ApiState]) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client of a server on a free port, with a key."""
    config = uvicorn.Config(
        create_app(make_state(api.database)), lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{listener.getsockname()[1]}",
            headers={"Authorization": f"Bearer {api.key}"},
            timeout=aiohttp.ClientTimeout(total=30),
        ) as client:
            yield client
        server.should_exit = True
        await serving


async def test_a_body_too_large_is_answered_and_the_server_goes_on(session: aiohttp.ClientSession) -> None:
    """Announced or chunked, the sender hears 413; the next request is served."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(33):
            yield b" " * 65536

    async with session.post("/v1/sources", data=BytesIO(b" " * (MEBIBYTE + 1))) as announced:
        first = await announced.json(content_type="application/problem+json")
    async with session.post("/v1/sources", data=chunks()) as chunked:
        second = await chunked.json(content_type="application/problem+json")
    async with session.post("/v1/sources", data=BytesIO(json.dumps(SOURCE).encode().ljust(MEBIBYTE))) as fitting:
        third = fitting.status

    assert (announced.status, first["code"]) == (413, "body_too_large")
    assert (chunked.status, second["code"]) == (413, "body_too_large")
    assert third == 201


async def test_head_has_headers_and_no_body(session: aiohttp.ClientSession) -> None:
    """The length is that of GET's body, which is not sent."""
    async with session.get("/v1/sources") as got:
        body = await got.read()
    async with session.head("/v1/sources") as head:
        nothing = await head.read()

    assert (head.status, head.headers["content-length"], nothing) == (200, str(len(body)), b"")


async def test_changes_at_once_lose_nothing_of_one_another(session: aiohttp.ClientSession) -> None:
    """Patches of different members, sent at once, are all in the outcome."""
    config = {"url": "https://example.com/", "headers": {}}
    async with session.post("/v1/endpoints", json={"name": "x", "kind": "webhook", "config": config}) as made:
        path = made.headers["location"]

    async def patch(number: int) -> int:
        async with session.patch(path, json={"config": {"headers": {f"X-{number}": "v"}}}) as answer:
            return answer.status

    statuses = await asyncio.gather(*(patch(number) for number in range(12)))

    async with session.get(path) as read:
        headers = (await read.json())["config"]["headers"]
    assert statuses == [200] * 12
    assert headers == {f"X-{number}": "***" for number in range(12)}
