"""What was received: kept hidden, recorded, acknowledged. When to receive more is the poller's business."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from app.domain.configuration import Source
from app.domain.errors import StoreError
from app.domain.ids import public_id
from app.domain.message import Message
from app.domain.ports import PullSource, Sleep
from app.ingest.health import Health
from app.ingest.room import Hold

ACK_PAUSES_SECONDS: Final = (0.2, 1.0, 3.0)

Record = Callable[[Source, Sequence[Message]], Awaitable[Sequence[Message]]]
"""The recorder's `record`: gives back the messages that were not recorded."""

_log = structlog.get_logger(__name__)


class Custody:
    """Sees the messages of one source through. Nothing is acknowledged that is not committed."""

    def __init__(self, source: Source, *, record: Record, health: Health, sleep: Sleep) -> None:
        """Take the parts; nothing is held yet."""
        self._source = source
        self._record = record
        self._health = health
        self._sleep = sleep
        self._log = _log.bind(source_id=public_id("src", source.id))

    async def see_through(self, pull: PullSource, messages: Sequence[Message], unrecorded: Hold) -> None:
        """Keep messages hidden until they are recorded and acknowledged, or left to come again.

        `unrecorded` is released with the commit. Cancelled: what is not acknowledged comes again.
        """
        async with asyncio.TaskGroup() as hiding:
            keeping = hiding.create_task(self._keep_hidden(pull, messages))
            recorded = await self._recorded(messages)
            unrecorded.release()
            if recorded:
                await self._acknowledge(pull, recorded)
            keeping.cancel()
            self._health.forget("extend")

    async def _recorded(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Have messages recorded and give those that were."""
        try:
            left = await self._record(self._source, messages)
        except StoreError as error:
            self._log.error("message.unrecorded", messages=len(messages), error=str(error))
            return ()
        if not left:
            return messages
        self._log.error("message.left", message_ids=[each.message_id for each in left], advice="They come again.")
        receipts = {each.receipt for each in left}
        return [each for each in messages if each.receipt not in receipts]

    async def _acknowledge(self, pull: PullSource, messages: Sequence[Message]) -> None:
        left = messages
        for pause in (*ACK_PAUSES_SECONDS, None):
            refused = await self._health.attempt("acknowledge", pull.ack(left))
            left = left if refused is None else refused
            if not left:
                return
            if pause is not None:
                await self._sleep(pause)
        self._log.warning("message.unacknowledged", messages=len(left), advice="They come again, as duplicates.")

    async def _keep_hidden(self, pull: PullSource, messages: Sequence[Message]) -> None:
        while True:
            await self._sleep(pull.visibility_seconds / 3)
            await self._health.attempt("extend", pull.extend(messages))
