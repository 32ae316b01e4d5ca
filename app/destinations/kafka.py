"""Deliveries as Kafka records: the door. Behind it kafka_writer.py works, which is only loaded for a first record.

aiokafka takes a while to load, and a process that has no Kafka endpoint starts without it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from app.domain.configuration import Endpoint
from app.domain.delivery import Owed
from app.domain.outcome import Outcome
from app.domain.ports import Now
from app.outbound.guard import Network
from app.outbound.nameservers import Nameserver

if TYPE_CHECKING:
    from app.destinations.kafka_writer import KafkaWriter

BATCH_LIMIT: Final = 200


@dataclass(slots=True, kw_only=True)
class Kafka:
    """Serves every Kafka endpoint of the process."""

    _writer: "KafkaWriter | None" = field(default=None, init=False)

    @classmethod
    def open(
        cls,
        *,
        allow_cidrs: Sequence[Network],  # noqa: ARG003 -- every kind is opened alike
        version: str,  # noqa: ARG003 -- likewise
        now: Now,  # noqa: ARG003 -- likewise
        nameservers: Sequence[Nameserver] = (),  # noqa: ARG003 -- likewise
    ) -> Self:
        """Make one; nothing is loaded or connected before the first send. Brokers are not bound to `allow_cidrs`."""
        return cls()

    @property
    def batch_limit(self) -> int:
        """As many as are worth one round trip."""
        return BATCH_LIMIT

    async def send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        """Produce the batch; as Destination promises, but for up to 2 s more when a producer is given up."""
        if self._writer is None:
            make = await asyncio.to_thread(_load)
            self._writer = self._writer or make()
        return await self._writer.send(endpoint, batch)

    async def aclose(self) -> None:
        """Give up every producer within 5 s, also while brokers are down; a send under way ends as not confirmed."""
        if self._writer is not None:
            await self._writer.aclose()


def _load() -> "Callable[[], KafkaWriter]":
    from app.destinations.kafka_pool import Producers  # noqa: PLC0415 -- see the module
    from app.destinations.kafka_writer import KafkaWriter  # noqa: PLC0415 -- likewise

    return lambda: KafkaWriter(Producers())
