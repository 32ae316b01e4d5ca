"""Clients of AWS and of what speaks like it. Who calls bounds each call in time and translates its errors (errors.py).

The library is imported at the first use and in a thread: importing it and reading its models takes seconds.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from app.aws.access import Access
from app.aws.roles import AssumedRole
from app.outbound.guard import guarded_socket, judge_metadata

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

__all__ = ["Access", "client", "new_session"]

CONNECT_SECONDS: Final = 5
# Assuming a role is part of the call that needs it, and must fail before that call's own limit to be told apart.
STS_CONNECT_SECONDS: Final = 4
STS_READ_SECONDS: Final = 8


@asynccontextmanager
async def client(
    service: str,
    access: Access,
    *,
    session: "AioSession | None" = None,
    connections: int = 10,
    read_seconds: float = 15.0,
) -> AsyncIterator[Any]:
    """Open a client of a service ("sqs", "sns", "s3", ...), which looks for credentials afresh.

    Clients of one `session` (of `new_session`, with the same access) share their credentials. Two tries a call at
    most. Raises what the library raises: wrap it, and every call, in `translated()`. A role is assumed by the first
    call and again before its credentials expire, within the call that finds them old.
    """
    shared = session or await new_session(service, access)
    from aiobotocore.config import AioConfig  # noqa: PLC0415 -- imported when needed, see the top

    settings = AioConfig(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=read_seconds,
        max_pool_connections=connections,
        retries={"mode": "standard", "total_max_attempts": 2},
        connector_args={"socket_factory": guarded_socket(judge_metadata)},
    )
    # The stubs know a type a service; this is any of them.
    opened: Any = shared.create_client(
        service,
        region_name=access.region,
        endpoint_url=access.endpoint_url,
        config=settings,
    )
    async with opened as ready:
        yield ready


async def new_session(service: str, access: Access) -> "AioSession":
    """Make a session that looks for credentials afresh, and assumes the role of `access` with them."""
    session = await asyncio.to_thread(_load, service)
    if access.role_arn is not None:
        own = await asyncio.to_thread(_load, "sts")
        sts = functools.partial(_sts, own, access)
        role = AssumedRole(access.role_arn, external_id=access.external_id, sts=sts, own=own)
        session.register_component("credential_provider", role)
    return session


def _sts(session: "AioSession", access: Access, service: str, **credentials: str | None) -> Any:
    """Open the client that assumes roles, in the way the library's fetcher asks for it."""
    from aiobotocore.config import AioConfig  # noqa: PLC0415 -- imported when needed, see the top

    settings = AioConfig(
        connect_timeout=STS_CONNECT_SECONDS,
        read_timeout=STS_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1},
        connector_args={"socket_factory": guarded_socket(judge_metadata)},
    )
    opened: Any = session.create_client
    return opened(service, region_name=access.region, endpoint_url=access.sts_url, config=settings, **credentials)


_loading: Final = threading.Lock()


def _load(service: str) -> "AioSession":
    """Make a session; the models are read once for the whole process, the operator's AWS files once a session."""
    from aiobotocore.session import get_session  # noqa: PLC0415 -- imported when needed, see the top

    session = get_session()
    with _loading:
        session.register_component("data_loader", _loader())
        session.warm_up_loader_caches(service)  # type: ignore[attr-defined]  # the stubs lag behind
    # Read here and kept by the session, so that no file is read on the event loop.
    _ = session.full_config
    return session


@functools.cache
def _loader() -> object:
    from aiobotocore.session import get_session  # noqa: PLC0415 -- imported when needed, see the top

    return get_session().get_component("data_loader")
