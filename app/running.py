"""How a process runs: its HTTP server, from the first moment to the last, and its parts, until told to stop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Final

import structlog
import uvicorn
from starlette.types import ASGIApp

# What is left of the grace for HTTP requests when the parts have ended.
LAST_REQUESTS_SECONDS: Final = 2

_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def answering(app: ASGIApp, listener: socket.socket, *, stopped: Callable[[], None]) -> AsyncIterator[None]:
    """Answer HTTP all the while, so that health can be asked for; `stopped` is called when the server ends."""
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=LAST_REQUESTS_SECONDS,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    serving.add_done_callback(lambda _: stopped())
    try:
        yield
    finally:
        server.should_exit = True
        await serving


async def run_all(
    running: Sequence[Callable[[asyncio.Event], Coroutine[None, None, None]]],
    stop: asyncio.Event,
    *,
    grace_seconds: float,
) -> None:
    """Run parts until `stop` is set and they have ended, or the grace is over; one that fails ends the process.

    A part catches what it foresees. What comes through is a bug, and a restart by the supervisor is its recovery.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(stop)) for run in running]
            await stop.wait()
            _log.info("gateway.stopping", grace_seconds=grace_seconds)
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                _log.warning("part.cut_off", advice="server.stop_seconds was not enough for what was in flight.")
                task.cancel()
    finally:
        stop.set()


def address_of(listener: socket.socket) -> dict[str, str | int]:
    """Give where a socket listens, for the log."""
    host, port = listener.getsockname()[:2]
    return {"host": host, "port": port}


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own, and readiness must fall before the server does."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
