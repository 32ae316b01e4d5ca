"""Dead-letter queues where SQS answers what moto does not: its own move tasks. With moto: tests/integration."""

import json
from collections.abc import AsyncIterator

import pytest

from app.aws.errors import AwsError
from app.domain.errors import SourceError
from app.sources.dead_letters import Redrive
from app.sources.sqs_dead_letters import SqsDeadLetterQueues
from tests.unit.sources.canned_sqs import CannedSqs, canned_sqs

DEAD = "arn:aws:sqs:eu-west-1:123456789012:q-dead"
POLICY = json.dumps({"deadLetterTargetArn": DEAD, "maxReceiveCount": "5"})
TASK: dict[str, object] = {"SourceArn": DEAD, "StartedTimestamp": 1}


@pytest.fixture
async def sqs(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CannedSqs]:
    """Run a canned SQS whose queue has a dead-letter queue with seven messages."""
    async with canned_sqs(monkeypatch) as canned:
        attributes = {"RedrivePolicy": POLICY, "ApproximateNumberOfMessages": "7", "MessageRetentionPeriod": "1209600"}
        canned.answers["GetQueueAttributes"] = 200, {"Attributes": attributes}
        canned.answers["ListMessageMoveTasks"] = 200, {"Results": []}
        canned.answers["StartMessageMoveTask"] = 200, {"TaskHandle": "handle"}
        yield canned


async def test_the_queue_of_the_policy_is_listed(sqs: CannedSqs) -> None:
    """Its URL is that of the source's queue with its own name; nothing is changed by looking."""
    [queue] = await SqsDeadLetterQueues(sqs.config()).all()

    assert (queue.queue_url, queue.queue_arn) == (f"{sqs.url}/1/q-dead", DEAD)
    assert (queue.depth, queue.max_receive_count, queue.retention_seconds) == (7, 5, 1209600)
    assert queue.redrive is None
    assert set(sqs.operations) == {"GetQueueAttributes", "ListMessageMoveTasks"}


@pytest.mark.parametrize(
    ("task", "redrive"),
    [
        (
            {"Status": "RUNNING", "ApproximateNumberOfMessagesMoved": 3, "ApproximateNumberOfMessagesToMove": 9},
            Redrive(state="running", moved=3, failed=0, to_move=9),
        ),
        (
            {"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 9},
            Redrive(state="completed", moved=9, failed=0, to_move=9),
        ),
        (
            {"Status": "FAILED", "ApproximateNumberOfMessagesMoved": 3, "ApproximateNumberOfMessagesToMove": 9},
            Redrive(state="failed", moved=3, failed=6, to_move=9),
        ),
    ],
)
async def test_the_newest_task_is_told(sqs: CannedSqs, task: dict[str, object], redrive: Redrive) -> None:
    """With its state and counts; what a failed one left behind is counted as failed."""
    sqs.answers["ListMessageMoveTasks"] = 200, {"Results": [{**TASK, **task}]}

    [queue] = await SqsDeadLetterQueues(sqs.config()).all()

    assert queue.redrive == redrive


async def test_tasks_that_may_not_be_seen_hide_nothing_else(sqs: CannedSqs) -> None:
    """Without the permission to list them the queue is told, and no redrive is known."""
    sqs.answers["ListMessageMoveTasks"] = 403, {"__type": "AccessDeniedException", "message": "no"}

    [queue] = await SqsDeadLetterQueues(sqs.config()).all()

    assert (queue.depth, queue.redrive) == (7, None)


async def test_a_redrive_is_a_task_of_its_service(sqs: CannedSqs) -> None:
    """It is started once, at a limited rate, back to where each message came from."""
    [queue] = await SqsDeadLetterQueues(sqs.config()).redrive()

    assert queue.redrive == Redrive(state="running", moved=0, failed=0, to_move=7)
    started = sqs.requests[sqs.operations.index("StartMessageMoveTask")]
    assert started == {"SourceArn": DEAD, "MaxNumberOfMessagesPerSecond": 200}


async def test_a_running_redrive_is_not_started_again(sqs: CannedSqs) -> None:
    """Asking twice is as good as once."""
    sqs.answers["ListMessageMoveTasks"] = 200, {"Results": [{**TASK, "Status": "RUNNING"}]}

    [queue] = await SqsDeadLetterQueues(sqs.config()).redrive()

    assert queue.redrive is not None
    assert queue.redrive.state == "running"
    assert "StartMessageMoveTask" not in sqs.operations


async def test_a_denied_redrive_says_so_and_moves_nothing(sqs: CannedSqs) -> None:
    """Only where the call is not known are messages moved one by one."""
    denied = "User: u is not authorized to perform: sqs:startmessagemovetask"
    sqs.answers["StartMessageMoveTask"] = 403, {"__type": "AccessDeniedException", "message": denied}

    with pytest.raises(AwsError) as caught:
        await SqsDeadLetterQueues(sqs.config()).redrive()

    assert (caught.value.status, str(caught.value)) == (403, f"AccessDeniedException: {denied}")
    assert "ReceiveMessage" not in sqs.operations


async def test_a_message_that_cannot_be_sent_is_not_deleted(sqs: CannedSqs) -> None:
    """With nothing moved the error is the service's; with some, they are counted."""
    sqs.answers["StartMessageMoveTask"] = 400, {"__type": "InvalidAction", "message": "unknown"}
    sqs.answers["ReceiveMessage"] = 200, {"Messages": [{"MessageId": "a", "ReceiptHandle": "r", "Body": "b"}]}
    sqs.answers["SendMessage"] = 403, {"__type": "AccessDeniedException", "message": "no sending"}

    with pytest.raises(SourceError, match="AccessDeniedException: no sending"):
        await SqsDeadLetterQueues(sqs.config(), slice_messages=1).redrive()

    assert "DeleteMessageBatch" not in sqs.operations


async def test_a_policy_that_cannot_be_read_is_a_source_error(sqs: CannedSqs) -> None:
    """It is shown as it is."""
    sqs.answers["GetQueueAttributes"] = 200, {"Attributes": {"RedrivePolicy": "{}"}}

    with pytest.raises(SourceError, match=r"cannot be read: \{\}"):
        await SqsDeadLetterQueues(sqs.config()).all()
