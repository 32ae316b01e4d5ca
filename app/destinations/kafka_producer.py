"""One disposable Kafka producer: the only file that touches aiokafka, and with it some of its private names.

An idempotent aiokafka producer never gives up and cannot take back what it was handed (aiokafka#1101, #1017), so the
deadline is ours, and after any trouble it is halted before anything is sent again. Who uses which is in kafka.py.
"""

import asyncio
import contextlib
import logging
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerResponseError,
    CorruptRecordException,
    InvalidProducerEpoch,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    RecordListTooLargeError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    UnknownError,
    UnknownProducerId,
    UnknownTopicOrPartitionError,
)

from app.destinations.formats import KafkaMessage
from app.domain.outcome import OutcomeKind
from app.outbound.guard import AddressRefused

# While a broker is down it complains ten times a second, at error level; what it would say is in the outcomes.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

# The broker's limit is to decide, not ours.
LARGEST_REQUEST: Final = 32 * 2**20
# Few round trips for a batch of deliveries, and far below a topic's usual limit of 1 MiB.
BATCH_BYTES: Final = 128 * 1024
# Longer than an endpoint's time limit usually is: the deadline around a batch speaks first.
REQUEST_MS: Final = 30_000
CLOSE_SECONDS: Final = 2.0

_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
# A broker refuses a whole batch for one of these. INVALID_RECORD (87) is unknown to aiokafka and comes as UnknownError.
_WRONG: Final = (CorruptRecordException, InvalidTimestampError, UnknownError)
# The producer's trouble and not the record's; what follows a refused batch meets it on a real broker (aiokafka#1017).
_OF_THE_PRODUCER: Final = (OutOfOrderSequenceNumber, ProducerFenced, InvalidProducerEpoch, UnknownProducerId)
_KINDS: Final[tuple[tuple[tuple[type[Exception], ...], OutcomeKind], ...]] = (
    ((AddressRefused,), "address_refused"),
    (_TOO_LARGE, "too_large"),
    ((TypeError, ValueError), "unsendable"),
    ((UnknownTopicOrPartitionError, InvalidTopicError), "topic_missing"),
    ((KafkaTimeoutError, RequestTimedOutError, TimeoutError), "timed_out"),
    (
        (KafkaConnectionError, LeaderNotAvailableError, NodeNotReadyError, NotLeaderForPartitionError),
        "unreachable",
    ),
    ((BrokerResponseError,), "answered"),
)

# What can go wrong in start(), has_topic() and put(); a timeout is an OSError, and so is AddressRefused.
PRODUCER_ERRORS: Final = (KafkaError, OSError, TypeError, ValueError)


class Producer:
    """Writes to one topic, for one batch at a time. Use it in the event loop that made it."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._producer: Any = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=LARGEST_REQUEST,
            request_timeout_ms=REQUEST_MS,
            metadata_max_age_ms=60_000,
        )
        self._is_halted = False

    @property
    def is_usable(self) -> bool:
        """Whether it can take another batch."""
        task = self._producer._sender.sender_task  # noqa: SLF001 -- see the module
        return not self._is_halted and task is not None and not task.done()

    def broker_hosts(self) -> list[str]:
        """Give the hosts that the brokers say they are reached at."""
        return [broker.host for broker in self._producer.client.cluster.brokers()]

    async def start(self) -> None:
        """Connect and get a producer's id. Raises PRODUCER_ERRORS; may take for ever, and may be cancelled."""
        await self._producer.start()

    async def has_topic(self) -> bool:
        """Ask a broker for the topic unless it is known. Raises PRODUCER_ERRORS."""
        client = self._producer.client
        # The first answer may be to a question from before the topic was added to it.
        for ask in (lambda: client.add_topic(self._topic), client.force_metadata_update):
            if self.knows_topic():
                return True
            if not await ask():
                raise KafkaConnectionError("no broker tells about its topics")
        if self._topic in client.cluster.unauthorized_topics:
            raise TopicAuthorizationFailedError(self._topic)
        return self.knows_topic()

    def knows_topic(self) -> bool:
        """Tell whether the topic is in what the brokers last said."""
        return bool(self._producer.client.cluster.partitions_for_topic(self._topic))

    async def put(self, message: KafkaMessage) -> "asyncio.Future[object]":
        """Hand a record over; the future ends with the broker's answer. Waits while the buffer is full.

        Raises PRODUCER_ERRORS; then the record will not be sent. Cancelled: likewise.
        """
        future: asyncio.Future[object] = await self._producer.send(
            self._topic, value=message.value, key=message.key, headers=list(message.headers)
        )
        return future

    def halt(self) -> None:
        """Make sure, at once, that nothing more goes out: what was handed over and is not answered stays unknown."""
        self._is_halted = True
        producer = self._producer
        producer._closed = True  # noqa: SLF001 -- it is never stopped in its own way, which may take for ever
        producer._message_accumulator._closed = True  # noqa: SLF001 -- likewise
        task = producer._sender.sender_task  # noqa: SLF001 -- likewise
        if task is not None:
            task.cancel()
        for connection in producer.client._conns.values():  # noqa: SLF001 -- closing would flush, aborting does not
            if connection._writer is not None:  # noqa: SLF001 -- likewise
                connection._writer.transport.abort()  # noqa: SLF001 -- likewise

    async def close(self) -> None:
        """Halt, and free its tasks and connections within CLOSE_SECONDS, also while the brokers are down."""
        self.halt()
        client = self._producer.client
        with contextlib.suppress(*PRODUCER_ERRORS):
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.close()
        # Its requests under way end by waiting for new metadata, which nobody fetches any more.
        if client._md_update_fut is None or not client._md_update_fut.done():  # noqa: SLF001 -- as in halt()
            ended = asyncio.get_running_loop().create_future()
            ended.set_result(False)
            waited, client._md_update_fut = client._md_update_fut, ended  # noqa: SLF001 -- likewise
            if waited is not None:
                waited.set_result(False)
        task = self._producer._sender.sender_task  # noqa: SLF001 -- likewise
        if task is not None:
            await asyncio.wait([task], timeout=CLOSE_SECONDS)


def outcome_kind(error: Exception) -> OutcomeKind:
    """Give what an error of PRODUCER_ERRORS, or of a future, says of a record."""
    return next((kind for errors, kind in _KINDS if isinstance(error, errors)), "unreachable")


def is_worth_sending_alone(error: Exception) -> bool:
    """Tell whether a record may have been refused for another one's fault, or for its producer's."""
    return isinstance(error, (*_TOO_LARGE, *_WRONG, *_OF_THE_PRODUCER))


def missing() -> Exception:
    """Give the error of a topic that no broker knows."""
    error: Exception = UnknownTopicOrPartitionError()
    return error


def sentence(error: Exception) -> str:
    """Say an error to people, with Kafka's own name for what a broker answered."""
    if isinstance(error, BrokerResponseError) and error.errno >= 0:
        return f"The broker answered {error.message}."
    text = str(error).removeprefix(f"{type(error).__name__}: ") or type(error).__name__
    return text.rstrip(".") + "."
