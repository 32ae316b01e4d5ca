"""The demo's webhook receiver: keeps a journal of all it hears, verifies every signature with somebody else's code."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import standardwebhooks
from aiohttp import web

WAIT_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One request: where it came in, its webhook-id, what was answered, whether its signature is right."""

    path: str
    webhook_id: str
    answered: int
    is_signed: bool
    key: str


class Receiver:
    """Answers with the statuses it is told to give, then 204; never drops a duplicate."""

    def __init__(self) -> None:
        """Begin with an empty journal."""
        self.journal: list[Heard] = []
        self.secrets: dict[str, str] = {}
        self.url = ""
        self._answers: defaultdict[str, deque[int]] = defaultdict(deque)
        self._always: dict[str, int] = {}
        self._heard = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        """Listen on a free port."""
        server = web.Application()
        server.router.add_post("/{name}", self._receive)
        self._runner = web.AppRunner(server, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def answer(self, path: str, *statuses: int) -> None:
        """Answer the next requests to a path with these."""
        self._answers[path].extend(statuses)

    def answer_always(self, path: str, status: int | None) -> None:
        """Answer every request to a path with this, or, with None, well again."""
        if status is None:
            self._always.pop(path, None)
        else:
            self._always[path] = status

    def heard(self, key: str) -> list[Heard]:
        """Give what was heard about one object."""
        return [each for each in self.journal if each.key == key]

    async def wait(self, is_there: Callable[[], bool]) -> bool:
        """Wait until the journal shows something; False when it did not in time."""
        try:
            async with asyncio.timeout(WAIT_SECONDS), self._heard:
                await self._heard.wait_for(is_there)
        except TimeoutError:
            return False
        return True

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        path = request.path
        try:
            payload = standardwebhooks.Webhook(self.secrets[path]).verify(body, dict(request.headers))
            is_signed = request.headers["Idempotency-Key"] == request.headers["webhook-id"]
        except Exception:  # noqa: BLE001 -- the library raises more than its own error on malformed input
            payload, is_signed = {}, False
        status = self._always.get(path) or (self._answers[path].popleft() if self._answers[path] else 204)
        async with self._heard:
            self.journal.append(
                Heard(
                    path=path,
                    webhook_id=request.headers.get("webhook-id", ""),
                    answered=status,
                    is_signed=is_signed,
                    key=payload.get("data", {}).get("key", "") if isinstance(payload, dict) else "",
                )
            )
            self._heard.notify_all()
        return web.Response(status=status)
