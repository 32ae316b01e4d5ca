"""Asks an ASGI app without a socket between, and holds every answer against the app's own OpenAPI document."""

import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from openapi_schema_validator import OAS31Validator
from starlette.types import ASGIApp, Message

JSON = Any  # as in api_client


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer; `body` is read from JSON where it is JSON, None where there is none, and bytes otherwise."""

    status: int
    headers: Mapping[str, str]
    body: JSON


class AsgiClient:
    """Asks as somebody with a key, or as nobody."""

    def __init__(self, app: ASGIApp, document: Mapping[str, Any], *, key: str | None) -> None:
        self._app = app
        self._document = document
        self.key = key

    async def get(self, path: str, **query: str | int) -> Answer:
        """GET a path."""
        return await self.ask("GET", path, query=query)

    async def post(self, path: str, body: JSON) -> Answer:
        """POST JSON; bytes go as they are."""
        return await self.ask("POST", path, body=body)

    async def patch(self, path: str, body: JSON) -> Answer:
        """PATCH with JSON; bytes go as they are."""
        return await self.ask("PATCH", path, body=body)

    async def delete(self, path: str) -> Answer:
        """DELETE a path."""
        return await self.ask("DELETE", path)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: JSON = None,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and give what comes back, checked against the document; an async iterable goes in chunks."""
        sent = {"authorization": f"Bearer {self.key}"} if self.key is not None else {}
        sent |= headers or {}
        chunks = body if isinstance(body, AsyncIterable) else _one(body)
        messages = await self._exchange(method, path, urlencode(query or {}), sent, chunks)
        answer = _read(messages)
        self._check(method, path, body, answer)
        return answer

    async def _exchange(
        self, method: str, path: str, query: str, headers: Mapping[str, str], chunks: AsyncIterable[bytes]
    ) -> list[Message]:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("gateway.test", 80),
        }
        reading = aiter(chunks)
        messages: list[Message] = []

        async def receive() -> Message:
            try:
                return {"type": "http.request", "body": await anext(reading), "more_body": True}
            except StopAsyncIteration:
                return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, send)
        return messages

    def _check(self, method: str, path: str, body: JSON, answer: Answer) -> None:
        operation = self._operation(method, path)
        if answer.status >= 400:
            self._conform({"$ref": "#/components/schemas/ProblemBody"}, answer.body)
            assert answer.headers["content-type"] == "application/problem+json"
        if operation is None:
            return
        declared = operation["responses"].get(str(answer.status))
        assert declared is not None, f"{method} {path} answered {answer.status}, which is not declared"
        content = declared.get("content", {})
        if answer.body is None:
            return
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in content, f"{method} {path} answered {answer.status} as {kind}, which is not declared"
        if kind.endswith("json"):
            self._conform(content[kind]["schema"], answer.body)
        if answer.status < 300 and "requestBody" in operation and not isinstance(body, AsyncIterable):
            self._conform(operation["requestBody"]["content"]["application/json"]["schema"], body)

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        for template, operations in self._document["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                found: dict[str, Any] | None = operations.get(method.lower())
                return found
        return None

    def _conform(self, schema: Mapping[str, Any], value: JSON) -> None:
        OAS31Validator({**schema, "components": self._document["components"]}).validate(value)


async def _one(body: JSON) -> AsyncIterator[bytes]:
    yield b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()


def _read(messages: list[Message]) -> Answer:
    start, *rest = messages
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    raw = b"".join(message.get("body", b"") for message in rest)
    is_json = "json" in headers.get("content-type", "")
    return Answer(
        status=start["status"], headers=headers, body=None if not raw else json.loads(raw) if is_json else raw
    )
