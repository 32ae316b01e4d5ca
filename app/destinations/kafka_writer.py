"""Producing a batch of deliveries, each with an outcome of its own: delivered is what the broker acknowledged.

A producer serves one batch at a time, so giving it up after trouble touches no other batch; it is given up before
outcomes are told, so nothing of a try arrives after the next one has begun.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from app.destinations.formats import KafkaMessage, kafka_message
from app.destinations.kafka_pool import Producers, Target
from app.destinations.kafka_producer import (
    PRODUCER_ERRORS,
    Producer,
    is_worth_sending_alone,
    missing,
    outcome_kind,
    sentence,
)
from app.domain.configuration import Endpoint
from app.domain.delivery import Owed
from app.domain.outcome import Outcome

# How often a silent broker's topic is looked for: aiokafka retries for ever on one that was deleted.
LOOK_SECONDS: Final = 1.0

Result = Exception | None
"""None for a record the broker acknowledged, else why it did not."""


class KafkaWriter:
    """What Kafka endpoints share: the producers."""

    def __init__(self, producers: Producers) -> None:
        """Take the producers, which it closes."""
        self._producers = producers

    async def send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        """As Destination promises; giving up a producer may take up to 2 s more than the limit."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        target = (str(endpoint.config["bootstrap_servers"]), str(endpoint.config["topic"]))
        written = [_write(owed) for owed in batch]
        messages = [each for each in written if isinstance(each, KafkaMessage)]
        results = iter(await self._produce_all(target, messages, started + endpoint.timeout_seconds))
        latency = loop.time() - started
        return [
            _outcome(next(results) if isinstance(each, KafkaMessage) else each, endpoint, latency) for each in written
        ]

    async def aclose(self) -> None:
        """Give up every producer within 5 s."""
        await self._producers.aclose()

    async def _produce_all(self, target: Target, messages: Sequence[KafkaMessage], deadline: float) -> list[Result]:
        """Produce all at once, then alone those that were refused together with others."""
        results = await self._produce(target, messages, deadline)
        if len(messages) == 1:
            return results
        for number, result in enumerate(results):
            if result is not None and is_worth_sending_alone(result):
                [results[number]] = await self._produce(target, [messages[number]], deadline)
        return results

    async def _produce(self, target: Target, messages: Sequence[KafkaMessage], deadline: float) -> list[Result]:
        """Produce with one producer, which is back or given up on return."""
        if not messages:
            return []
        try:
            async with asyncio.timeout_at(deadline):
                producer = await self._producers.take(target)
        except PRODUCER_ERRORS as error:
            return [error] * len(messages)
        try:
            results = await _hand_over(producer, messages, deadline)
        except BaseException:
            self._producers.give_up(producer)
            raise
        if any(results):
            # Only then is anything sent again: what this producer still holds must not arrive after it.
            await asyncio.wait([self._producers.give_up(producer)])
        else:
            self._producers.give_back(producer)
        return results


async def _hand_over(producer: Producer, messages: Sequence[KafkaMessage], deadline: float) -> list[Result]:
    try:
        async with asyncio.timeout_at(deadline):
            if not await producer.has_topic():
                return [missing()] * len(messages)
    except PRODUCER_ERRORS as error:
        return [error] * len(messages)
    handed: list[asyncio.Future[object] | Exception] = []
    for message in messages:
        try:
            async with asyncio.timeout_at(deadline):
                handed.append(await producer.put(message))
        except PRODUCER_ERRORS as error:
            handed.append(error)
    await _wait_for_broker(producer, {each for each in handed if isinstance(each, asyncio.Future)}, deadline)
    return [_result(producer, each) if isinstance(each, asyncio.Future) else each for each in handed]


async def _wait_for_broker(producer: Producer, pending: set["asyncio.Future[object]"], deadline: float) -> None:
    """Wait until all have their answer, or none is to come: the time is over, the topic gone, the producer halted."""
    now = asyncio.get_running_loop().time
    while pending and now() < deadline and producer.is_usable and producer.knows_topic():
        _, pending = await asyncio.wait(pending, timeout=min(LOOK_SECONDS, deadline - now()))


def _result(producer: Producer, future: "asyncio.Future[object]") -> Result:
    if not future.done():
        future.cancel()  # no answer is waited for, nor complained about
        return TimeoutError() if producer.knows_topic() else missing()
    error = future.exception()
    return error if error is None or isinstance(error, Exception) else TimeoutError()


def _write(owed: Owed) -> KafkaMessage | ValueError:
    try:
        return kafka_message(owed)
    except ValueError as error:
        return error


def _outcome(result: Result, endpoint: Endpoint, latency_seconds: float) -> Outcome:
    if result is None:
        return Outcome(kind="delivered", latency_seconds=latency_seconds)
    kind = outcome_kind(result)
    match kind:
        case "timed_out":
            error = f"Kafka did not confirm it within {endpoint.timeout_seconds:g} s."
        case "topic_missing":
            error = f"The topic {endpoint.config['topic']} does not exist."
        case _:
            error = sentence(result)
    return Outcome(kind=kind, latency_seconds=latency_seconds, error=error)
