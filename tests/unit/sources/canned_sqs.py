"""An SQS that gives the answers a test put in."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from app.sources.sqs_config import SqsConfig
from tests.bed.aws import ENVIRONMENT
from tests.bed.ports import HOST


class CannedSqs:
    """An SQS that answers each operation with what was put in, and any other with an error."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Mapping[str, Any] | str]] = {}
        self.operations: list[str] = []
        self.requests: list[Mapping[str, Any]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request of the JSON protocol."""
        operation = request.headers["X-Amz-Target"].removeprefix("AmazonSQS.")
        self.operations.append(operation)
        self.requests.append(json.loads(await request.read()))
        status, body = self.answers[operation]
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/html" if text.startswith("<") else "application/x-amz-json-1.0"
        return web.Response(status=status, text=text, content_type=kind)

    def config(self, **changes: object) -> SqsConfig:
        """Give the config of a source that calls it."""
        config = {"queue_url": f"{self.url}/1/q", "region": "eu-west-1", "wait_seconds": 0, **changes}
        return SqsConfig.model_validate(config)


@asynccontextmanager
async def canned_sqs(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CannedSqs]:
    """Run one, with credentials in the environment."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    canned = CannedSqs()
    application = web.Application()
    application.router.add_post("/{path:.*}", canned.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    canned.url = f"http://{HOST}:{runner.addresses[0][1]}"
    yield canned
    await runner.cleanup()
