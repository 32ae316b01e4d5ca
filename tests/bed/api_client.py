"""A small client of the gateway's REST, for tests: JSON in, JSON out; failures say what came back."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=30)
JSON = Any  # what comes back is whatever the gateway says; a test that names a field that is not there fails


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAnswer:
    """One answer, whatever its status; `body` is None where there is none, and text where it is not JSON."""

    status: int
    headers: Mapping[str, str]
    body: JSON


class ApiClient:
    """Bound to a `/v1`; asks for the key when it is first needed. Close it with `aclose`."""

    def __init__(self, url: str, key: Callable[[], Awaitable[str]]) -> None:
        self.url = url
        self._ask_for_key = key
        self._key: str | None = None
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, **query: str | int) -> JSON:
        """GET a path under `/v1`; a status of 400 or more is an AssertionError, here as below."""
        return (await self._successful("GET", path, query=query)).body

    async def post(self, path: str, body: JSON = None) -> JSON:
        """POST JSON, or nothing at all."""
        return (await self._successful("POST", path, body=body)).body

    async def patch(self, path: str, body: JSON) -> JSON:
        """PATCH with an RFC 7396 merge."""
        return (await self._successful("PATCH", path, body=body)).body

    async def delete(self, path: str) -> None:
        """DELETE."""
        await self._successful("DELETE", path)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: JSON = None,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiAnswer:
        """Send one request and give whatever comes back; bytes are sent as they are, all else as JSON."""
        session = self._session = self._session or aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        sent = {"Authorization": f"Bearer {await self._own_key()}", **(headers or {})}
        sending: dict[str, Any] = {"data": body} if body is None or isinstance(body, bytes) else {"json": body}
        async with session.request(method, self.url + path, params=query, headers=sent, **sending) as answer:
            is_json = "json" in answer.content_type
            content = await answer.json(content_type=None) if is_json else await answer.text()
            return ApiAnswer(
                status=answer.status, headers=answer.headers.copy(), body=None if content == "" else content
            )

    async def aclose(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _successful(
        self, method: str, path: str, *, body: JSON = None, query: Mapping[str, str | int] | None = None
    ) -> ApiAnswer:
        answer = await self.request(method, path, body=body, query=query)
        assert answer.status < 400, f"{method} {path}: {answer.status} {answer.body}"
        return answer

    async def _own_key(self) -> str:
        self._key = self._key or await self._ask_for_key()
        return self._key
