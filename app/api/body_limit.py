"""How much body a request may have. It is counted while it is read, so that a chunked one is bounded too."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import body_too_large

LIMIT_BYTES: Final = 1024 * 1024


class BodyLimit:
    """ASGI: whoever reads more than the limit gets a Problem instead; what nobody reads is never held."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._app = app
        self._limit = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read = 0
        announced = _announced_length(scope)

        async def receive_counted() -> Message:
            nonlocal read
            if announced > self._limit:
                raise body_too_large(self._limit)
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                raise body_too_large(self._limit)
            return message

        await self._app(scope, receive_counted, send)


def _announced_length(scope: Scope) -> int:
    # The server has refused a length that is no number, and there is only one.
    return next((int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()), 0)
