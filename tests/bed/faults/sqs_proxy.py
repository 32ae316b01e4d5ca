"""A proxy before an SQS that misbehaves as SQS may: half of a batch not deleted, answers lost on their way.

It also notes how late each message was hidden for another span, against the rhythm that the gateway promises.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from tests.bed.ports import HOST

TIMEOUT = aiohttp.ClientTimeout(total=60)
EVERY = 3


@dataclass(slots=True, kw_only=True)
class Seen:
    """What went through: calls by name, deletes refused, answers lost, the gaps between hidings of one message."""

    calls: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    cut: int = 0
    gaps: list[float] = field(default_factory=list)


class SqsProxy:
    """Listens on a port of this machine and passes on to SQS at a URL."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._hidden_at: dict[str, float] = {}
        self.refuses_half = False
        self.cuts_answers = False
        self.seen = Seen()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False)
        application = web.Application()
        application.router.add_post("/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        name = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        body = await request.read()
        self.seen.calls[name] += 1
        if name == "ChangeMessageVisibilityBatch":
            self._note_hidings(json.loads(body)["Entries"])
        if name == "DeleteMessageBatch" and self.refuses_half:
            return await self._delete_half(request, json.loads(body))
        status, answer = await self._ask(request, body)
        if name == "ReceiveMessage" and status == 200:
            messages = json.loads(answer).get("Messages", [])
            if messages and self.cuts_answers and self.seen.calls[name] % EVERY == 0:
                self.seen.cut += 1
                assert request.transport is not None
                request.transport.abort()
            else:
                self._hidden_at |= dict.fromkeys((each["ReceiptHandle"] for each in messages), time.monotonic())
        return _response(status, answer)

    async def _delete_half(self, request: web.Request, wanted: dict[str, Any]) -> web.Response:
        """Let every other one through, and say of the rest what SQS says when one of its hosts is ill."""
        through, refused = wanted["Entries"][::2], wanted["Entries"][1::2]
        self.seen.refused += len(refused)
        status, answer = await self._ask(request, json.dumps({**wanted, "Entries": through}).encode())
        if status != 200:
            return _response(status, answer)
        ill = [{"Id": each["Id"], "SenderFault": False, "Code": "InternalError"} for each in refused]
        said = json.loads(answer)
        return _response(200, json.dumps({**said, "Failed": [*said.get("Failed", ()), *ill]}).encode())

    async def _ask(self, request: web.Request, body: bytes) -> tuple[int, bytes]:
        kept = {
            name: value for name, value in request.headers.items() if name.lower() not in {"host", "content-length"}
        }
        async with self._session.post(self._target + request.path_qs, data=body, headers=kept) as answer:
            return answer.status, await answer.read()

    def _note_hidings(self, entries: list[dict[str, Any]]) -> None:
        now = time.monotonic()
        for each in entries:
            before = self._hidden_at.get(each["ReceiptHandle"])
            if before is not None:
                self.seen.gaps.append(now - before)
            self._hidden_at[each["ReceiptHandle"]] = now


def _response(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/x-amz-json-1.0")
