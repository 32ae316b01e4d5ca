"""How much may be held at once, in messages and bytes. Who waits for room does so here."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from app.domain.ports import Message


class Room:
    """A bound that is looked at before a poll: what one poll brings may go over it, and no further."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        """Start empty."""
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages = 0
        self._bytes = 0
        self._free = asyncio.Event()
        self._free.set()

    @property
    def is_free(self) -> bool:
        """Tell whether another poll may start."""
        return self._free.is_set()

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is held."""
        return self._messages == 0

    async def free(self) -> None:
        """Wait until another poll may start."""
        await self._free.wait()

    @contextmanager
    def hold(self, messages: Sequence[Message]) -> Iterator[None]:
        """Count messages in until the block ends."""
        size = sum(len(message.body) for message in messages)
        self._add(len(messages), size)
        try:
            yield
        finally:
            self._add(-len(messages), -size)

    def _add(self, messages: int, size: int) -> None:
        self._messages += messages
        self._bytes += size
        if self._messages < self._max_messages and self._bytes < self._max_bytes:
            self._free.set()
        else:
            self._free.clear()


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one has ended; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
