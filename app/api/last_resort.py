"""The outermost layer: an exception that nobody foresaw is logged here, and answered with 500."""

import re
from typing import Final

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.answers import response_to
from app.api.errors import crashed

# A push may carry its token as the last part of its path.
_PUSHED_TO: Final = re.compile(r"/v1/ingest/(?:s3|sns)/src_[a-z2-7]{26}(?=/|$)")

_log = structlog.get_logger(__name__)


class LastResort:
    """ASGI: catches what came through. A response that has begun is left broken off: nobody takes it for whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            has_begun = has_begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            _log.debug("request.abandoned", method=scope["method"], path=loggable(scope["path"]))
        except Exception:
            _log.exception("request.failed", method=scope["method"], path=loggable(scope["path"]))
            if has_begun:
                raise
            await response_to(crashed())(scope, receive, send)


def loggable(path: str) -> str:
    """Give a path without what may be a token in it: of one that pushes go to only the part that names the source."""
    if "ingest" not in path.lower():
        return path
    found = _PUSHED_TO.match(path)
    shown = found[0] if found else ""
    return shown if shown == path else f"{shown}/***"
