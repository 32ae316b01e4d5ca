"""HEAD on every path that takes GET: the same status and headers, without the body."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The member of a scope by which a route can tell what was asked for.
IS_HEAD: Final = "bucketpost.is_head"


class HeadAsGet:
    """ASGI: routes see GET, the caller sees no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET", IS_HEAD: True}, receive, send_without_body)
