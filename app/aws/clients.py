"""Clients of AWS and of what speaks like it. Who calls bounds each call in time and translates its errors (errors.py).

The library is imported at the first use and in a thread: importing it and reading its models takes seconds.
"""

import asyncio
import functools
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.outbound.chosen import leads_to_metadata

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

CONNECT_SECONDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where and as whom AWS is called; None leaves it to the AWS default chain."""

    region: str | None = None
    endpoint_url: str | None = None
    role_arn: str | None = None
    external_id: str | None = None


@asynccontextmanager
async def client(
    service: str, access: Access, *, connections: int = 10, read_seconds: float = 15.0
) -> AsyncIterator[Any]:
    """Open a client of a service ("sqs", "sns", "s3", ...), which looks for credentials afresh.

    Two tries a call at most. Raises what the library raises: wrap it in `translated()`.
    """
    session = await asyncio.to_thread(_new_session, service)
    from aiobotocore.config import AioConfig  # noqa: PLC0415 -- imported when needed, see the top

    settings = AioConfig(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=read_seconds,
        max_pool_connections=connections,
        retries={"mode": "standard", "total_max_attempts": 2},
        connector_args={"socket_factory": guarded_socket},
    )
    # The stubs know a type a service; this is any of them.
    opened: Any = session.create_client(
        service,
        region_name=access.region,
        endpoint_url=access.endpoint_url,
        config=settings,
    )
    async with opened as ready:
        yield ready


def guarded_socket(
    address: tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]],
) -> socket.socket:
    """Make a socket, unless a name led to a metadata address."""
    family, kind, protocol, _, (host, *_) = address
    if leads_to_metadata(host):
        raise OSError(f"{host} is a metadata address")
    return socket.socket(family, kind, protocol)


_loading: Final = threading.Lock()


def _new_session(service: str) -> "AioSession":
    """Make a session that looks for credentials afresh; the models are read once for the whole process."""
    from aiobotocore.session import get_session  # noqa: PLC0415 -- imported when needed, see the top

    session = get_session()
    with _loading:
        session.register_component("data_loader", _loader())
        session.warm_up_loader_caches(service)  # type: ignore[attr-defined]  # the stubs lag behind
    return session


@functools.cache
def _loader() -> object:
    from aiobotocore.session import get_session  # noqa: PLC0415 -- imported when needed, see the top

    return get_session().get_component("data_loader")
