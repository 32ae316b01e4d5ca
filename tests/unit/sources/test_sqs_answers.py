"""What SqsSource makes of answers that moto does not give, and of a machine without credentials."""

import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.errors import SourceError
from app.outbound.guard import guarded_socket, judge_metadata
from app.sources.sqs import SqsSource
from tests.unit.sources.canned_sqs import CannedSqs, canned_sqs


@pytest.fixture
async def sqs(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CannedSqs]:
    """Run a canned SQS, with credentials in the environment."""
    async with canned_sqs(monkeypatch) as canned:
        yield canned


async def test_a_message_repeated_in_one_reply_is_given_once(sqs: CannedSqs) -> None:
    """Of copies with one id the last receipt counts, and the order is that of the first."""
    ids = ["a", "b", "a", "a", "c"]
    messages = [{"MessageId": each, "ReceiptHandle": f"r{place}", "Body": each} for place, each in enumerate(ids)]
    sqs.answers["ReceiveMessage"] = 200, {"Messages": messages}
    source = SqsSource(sqs.config())

    received = await source.receive()
    await source.aclose()

    assert [(each.message_id, each.receipt) for each in received] == [("a", "r3"), ("b", "r1"), ("c", "r4")]


async def test_a_poll_asks_for_ten_and_its_own_span(sqs: CannedSqs) -> None:
    """The queue's own visibility does not count, and no attribute is asked for but when a message was sent."""
    sqs.answers["ReceiveMessage"] = 200, {}
    source = SqsSource(sqs.config(visibility_seconds=90))

    await source.receive()
    await source.aclose()

    assert sqs.requests == [
        {
            "QueueUrl": f"{sqs.url}/1/q",
            "MaxNumberOfMessages": 10,
            "WaitTimeSeconds": 0,
            "VisibilityTimeout": 90,
            "MessageSystemAttributeNames": ["SentTimestamp"],
        }
    ]


async def test_a_denied_call_says_what_aws_said(sqs: CannedSqs) -> None:
    """AWS's code and message stand in one line, without the address of the documentation."""
    message = "User: arn:aws:iam::1:user/u is not authorized to perform: sqs:receivemessage\non resource: q"
    sqs.answers["ReceiveMessage"] = (
        400,
        {"__type": "com.amazon.coral.service#AccessDeniedException", "message": message},
    )
    source = SqsSource(sqs.config())

    with pytest.raises(SourceError) as caught:
        await source.receive()
    await source.aclose()

    expected = "AccessDeniedException: " + message.replace("\n", " ")
    assert str(caught.value) == expected


async def test_an_endpoint_that_is_not_sqs_is_a_source_error(sqs: CannedSqs) -> None:
    """A page of some other server is not taken for an empty queue."""
    sqs.answers["ReceiveMessage"] = 200, "<html>Welcome</html>"
    source = SqsSource(sqs.config())

    with pytest.raises(SourceError, match="web page"):
        await source.receive()
    await source.aclose()


async def test_no_credentials_is_a_source_error(sqs: CannedSqs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials anywhere in the chain the error says so; with them a source opened anew works."""
    sqs.answers["ReceiveMessage"] = 200, {}
    with monkeypatch.context() as without:
        without.delenv("AWS_ACCESS_KEY_ID")
        without.delenv("AWS_SECRET_ACCESS_KEY")
        source = SqsSource(sqs.config())
        with pytest.raises(SourceError, match="NoCredentialsError: Unable to locate credentials"):
            await source.receive()
        await source.aclose()
    reopened = SqsSource(sqs.config())

    received = await reopened.receive()
    await reopened.aclose()

    assert list(received) == []


async def test_no_region_is_a_source_error(sqs: CannedSqs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue URL without a region needs one from config or environment, and the error asks for it."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    source = SqsSource(sqs.config(region=None))

    with pytest.raises(SourceError, match="region"):
        await source.receive()
    await source.aclose()


def test_a_name_that_leads_to_a_metadata_address_gets_no_socket() -> None:
    """The address is judged where the socket is made, so a name cannot hide it."""
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))

    with pytest.raises(OSError, match="metadata service"):
        guarded_socket(judge_metadata)(address)


@pytest.mark.parametrize("kind", ["com.amazonaws.sqs#OverLimit", "AWS.SimpleQueueService.OverLimit"])
async def test_too_much_in_flight_is_a_source_error(sqs: CannedSqs, kind: str) -> None:
    """At 120,000 messages in flight a poll fails, and so backs off, in the words of AWS."""
    sqs.answers["ReceiveMessage"] = 403, {"__type": kind, "message": "Too many messages in flight"}
    source = SqsSource(sqs.config())

    with pytest.raises(SourceError, match=r"OverLimit: Too many messages in flight"):
        await source.receive()
    await source.aclose()


@pytest.mark.parametrize("stamp", ["", "soon", "99999999999999999999", "-99999999999999999"])
async def test_a_time_that_cannot_be_is_no_time(sqs: CannedSqs, stamp: str) -> None:
    """The message comes all the same: when it was sent is only shown."""
    message = {"MessageId": "a", "ReceiptHandle": "r", "Body": "b", "Attributes": {"SentTimestamp": stamp}}
    sqs.answers["ReceiveMessage"] = 200, {"Messages": [message]}
    source = SqsSource(sqs.config())

    [received] = await source.receive()
    await source.aclose()

    assert received.sent_at is None


async def test_the_oldest_age_is_that_of_what_was_received_since(sqs: CannedSqs) -> None:
    """Of all messages since the last measure the longest wait; a clock that is ahead makes no negative one."""
    sent = (datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1))
    messages = [
        {
            "MessageId": f"{place}",
            "ReceiptHandle": "r",
            "Attributes": {"SentTimestamp": f"{each.timestamp() * 1000:.0f}"},
        }
        for place, each in enumerate(sent)
    ]
    counts = {"ApproximateNumberOfMessages": "7", "ApproximateNumberOfMessagesNotVisible": "2"}
    sqs.answers["ReceiveMessage"] = 200, {"Messages": messages}
    sqs.answers["GetQueueAttributes"] = 200, {"Attributes": {**counts, "ApproximateNumberOfMessagesDelayed": "1"}}
    source = SqsSource(sqs.config())
    await source.receive()

    first, second = await source.measure(), await source.measure()
    await source.aclose()

    assert (first.depth, first.in_flight, first.delayed) == (7, 2, 1)
    assert first.oldest_seconds == pytest.approx(3600, abs=60)
    assert second.oldest_seconds is None
