"""A consumer that writes down every record of some topics, from their beginning and through broker restarts.

It belongs to no group and never skips: each offset of each partition is in the journal exactly once.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from tests.bed.journal import Journal

RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaRecord:
    """A record as it stands in its topic, and when this consumer read it (monotonic clock)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    value: bytes | None
    read_at: float

    def header(self, name: str) -> str:
        """Give the text of the one header of that name; a ValueError when there is none or another one."""
        [value] = [value for header, value in self.headers if header == name]
        return value.decode()


class KafkaJournal:
    """Reads while the `async with` block lasts."""

    def __init__(self, bootstrap_servers: str, topics: Iterable[str]) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topics = tuple(topics)
        self._next: dict[TopicPartition, int] = {}
        self._journal: Journal[KafkaRecord] = Journal()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read_for_ever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    @property
    def records(self) -> Sequence[KafkaRecord]:
        """What was read so far."""
        return tuple(self._journal.entries)

    async def wait_for(
        self, wanted: int | Callable[[Sequence[KafkaRecord]], bool], *, within: float = 10
    ) -> Sequence[KafkaRecord]:
        """Wait for that many records, or for a condition on all of them, and give them back."""
        return await self._journal.wait_for(wanted, within=within)

    async def _read_for_ever(self) -> None:
        while True:
            # The client gets over most of what a broker's restart brings; past that a new one goes on.
            with contextlib.suppress(KafkaError, OSError):
                await self._read()
            await asyncio.sleep(RETRY_SECONDS)

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            *self._topics,
            bootstrap_servers=self._bootstrap_servers,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            metadata_max_age_ms=2_000,
        )
        try:
            await consumer.start()
            while True:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    for record in records:
                        self._write_down(record)
        finally:
            await consumer.stop()

    def _write_down(self, record: "ConsumerRecord[bytes | None, bytes | None]") -> None:
        partition = TopicPartition(record.topic, record.partition)
        if record.offset < self._next.get(partition, 0):
            return  # a new client starts from the beginning again
        self._next[partition] = record.offset + 1
        self._journal.append(
            KafkaRecord(
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                key=record.key,
                headers=tuple(record.headers),
                value=record.value,
                read_at=time.monotonic(),
            )
        )
