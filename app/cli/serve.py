"""`bucketpost serve`: the process around the gateway: port, lock, signals, exit status."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Annotated, Final

import structlog
import typer
import uvloop

from app.domain.errors import SettingsError, StartError
from app.settings import Settings, read_settings

PARTS: Final = ("api", "ingest", "relay")
BACKLOG: Final = 2048
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger(__name__)


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.", show_default="8080")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Parts to run, separated by commas: api, ingest, relay.", show_default="all three"),
    ] = None,
) -> None:
    """Receive, record and deliver events, and answer the REST API, until SIGTERM."""
    for number in STOP_SIGNALS:
        signal.signal(number, _end_before_the_start)
    settings = _with_flags(read_settings(), host=host, port=port)
    parts = _read_parts(only)
    with _listening(settings.server.host, settings.server.port) as listener:
        uvloop.run(_run(settings, parts, listener))
    sys.exit(os.EX_OK)


async def _run(settings: Settings, parts: frozenset[str], listener: socket.socket) -> None:
    from app.bootstrap import Gateway

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask_to_stop() -> None:
        if stop.is_set():
            os._exit(1)  # the second signal: now means now
        stop.set()
        loop.call_later(settings.server.stop_seconds, _end_without_leaving)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, ask_to_stop)
    await Gateway(settings, parts).run(listener, stop)


def _end_without_leaving() -> None:
    """End the process where something does not let go, such as a driver whose database hangs: the bound of every stop.

    What is not written down by now stays owed, and leases that were not given back run out.
    """
    _log.warning("gateway.cut_off", advice="Something hangs, the database most likely; what was in flight stays owed.")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(os.EX_OK)


def _end_before_the_start(_number: int, _frame: object) -> None:
    # Loading takes a second or two; nothing is under way yet.
    sys.exit(os.EX_OK)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Take the port before anything else is touched. Raises StartError when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingsError(f"--host {host} is no address of this machine: {error.strerror}.") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise StartError(_why_not(error, host, port)) from error
        listener.setblocking(False)  # noqa: FBT003 -- the socket's own signature
        yield listener


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use: stop what listens there, or choose another with --port."
    if error.errno == errno.EACCES:
        return f"Port {port} on {host} is not allowed for this user: choose one from 1024 up with --port."
    return f"Cannot listen on {host} port {port}: {error.strerror}. Choose others with --host and --port."


def _with_flags(settings: Settings, *, host: str | None, port: int | None) -> Settings:
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return settings.model_copy(update={"server": settings.server.model_copy(update=given)}) if given else settings


def _read_parts(only: str | None) -> frozenset[str]:
    if only is None:
        return frozenset(PARTS)
    parts = [part.strip() for part in only.split(",") if part.strip()]
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise SettingsError(
            f"--only takes {', '.join(PARTS)}, separated by commas; not {', '.join(unknown) or 'nothing'}."
        )
    return frozenset(parts)
