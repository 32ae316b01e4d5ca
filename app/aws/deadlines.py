"""One call of AWS, bounded in time and with its errors translated."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.aws.errors import translated
from app.domain.errors import SourceError

_T = TypeVar("_T")


async def answered(call: Callable[[], Awaitable[_T]], *, within: float, where: str) -> _T:
    """Await a call, credentials and all, for so many seconds at most.

    Raises AwsError in AWS's words, SourceError that names `where` when there was no answer in time.
    """
    try:
        with translated():
            async with asyncio.timeout(within):
                return await call()
    except TimeoutError:
        raise SourceError(f"No answer from {where} within {within:g} s.") from None
