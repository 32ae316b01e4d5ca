"""What becomes of a Kafka producer around a batch, without a broker."""

import asyncio
from collections.abc import Sequence

from aiokafka.errors import MessageSizeTooLargeError

from app.destinations.formats import KafkaMessage
from app.destinations.kafka_pool import Producers, Target
from app.destinations.kafka_producer import Producer
from app.destinations.kafka_writer import KafkaWriter
from tests.unit.destinations.values import make_endpoint, make_owed

ENDPOINT = make_endpoint("kafka", {"bootstrap_servers": "broker:9092", "topic": "events"})


class FakeProducer(Producer):
    """Takes whatever it is given; the broker's answer to all of it is one and the same."""

    def __init__(self, answer: Exception | None) -> None:
        self._answer = answer

    @property
    def is_usable(self) -> bool:
        """Always."""
        return True

    async def has_topic(self) -> bool:
        """Always."""
        return True

    def knows_topic(self) -> bool:
        """Always."""
        return True

    async def put(self, message: KafkaMessage) -> "asyncio.Future[object]":
        """Answer at once."""
        assert message.value
        future = asyncio.get_running_loop().create_future()
        if self._answer is None:
            future.set_result(None)
        else:
            future.set_exception(self._answer)
        return future


class FakeProducers(Producers):
    """Hands out producers by what brokers will answer them, and keeps a journal of what becomes of each."""

    def __init__(self, answers: Sequence[Exception | None]) -> None:
        super().__init__()
        self._answers = iter(answers)
        self.journal: list[str] = []

    async def take(self, target: Target) -> Producer:
        """Give the next one."""
        assert target == ("broker:9092", "events")
        self.journal.append("taken")
        return FakeProducer(next(self._answers))

    def give_back(self, producer: Producer) -> None:
        """Note it."""
        assert isinstance(producer, FakeProducer)
        self.journal.append("given back")

    def give_up(self, producer: Producer) -> asyncio.Task[None]:
        """Note it, and when it is freed, which takes a while."""

        async def free() -> None:
            assert isinstance(producer, FakeProducer)
            await asyncio.sleep(0)
            self.journal.append("freed")

        self.journal.append("given up")
        return asyncio.create_task(free())


async def test_a_producer_in_trouble_is_freed_before_anything_is_sent_again() -> None:
    """What it still holds cannot arrive after what the next one is given."""
    producers = FakeProducers([MessageSizeTooLargeError(), None, MessageSizeTooLargeError()])

    outcomes = await KafkaWriter(producers).send(ENDPOINT, [make_owed(1), make_owed(2)])

    assert [each.kind for each in outcomes] == ["delivered", "too_large"]
    in_trouble = ["taken", "given up", "freed"]
    assert producers.journal == [*in_trouble, "taken", "given back", *in_trouble]
