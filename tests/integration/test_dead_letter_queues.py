"""Dead letters of a queue over a service that has no move tasks: listed, and moved back here, slice by slice."""

import json

import pytest
from types_aiobotocore_sqs.type_defs import MessageTypeDef

from app.sources.dead_letters import DeadLetterQueue, Redrive
from app.sources.sqs_config import SqsConfig
from app.sources.sqs_dead_letters import SqsDeadLetterQueues
from tests.bed.aws import ENVIRONMENT, Aws


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def _queues(aws: Aws, queue_url: str, *, slice_messages: int = 200) -> SqsDeadLetterQueues:
    config = {"queue_url": queue_url, "region": aws.region, "endpoint_url": aws.endpoint_url}
    return SqsDeadLetterQueues(SqsConfig.model_validate(config), slice_messages=slice_messages)


async def _pair(aws: Aws) -> tuple[str, str]:
    """Make a queue with a dead-letter queue; gives both URLs."""
    dead_url = await aws.create_queue(MessageRetentionPeriod="1209600")
    policy = {"deadLetterTargetArn": await aws.queue_arn(dead_url), "maxReceiveCount": 5}
    return await aws.create_queue(RedrivePolicy=json.dumps(policy)), dead_url


async def test_a_queue_without_dead_letters_lists_none(aws: Aws) -> None:
    """And a redrive of it moves nothing."""
    queues = _queues(aws, await aws.create_queue())

    assert (list(await queues.all()), list(await queues.redrive())) == ([], [])


async def test_a_dead_letter_queue_is_found_by_the_redrive_policy(aws: Aws) -> None:
    """With what is in it; no redrive is known where the service has none."""
    queue_url, dead_url = await _pair(aws)
    await aws.send(dead_url, "dead")

    found = await _queues(aws, queue_url).all()

    assert list(found) == [
        DeadLetterQueue(
            queue_url=dead_url,
            queue_arn=await aws.queue_arn(dead_url),
            depth=1,
            max_receive_count=5,
            retention_seconds=1209600,
            redrive=None,
        )
    ]


async def test_a_redrive_moves_all_back(aws: Aws) -> None:
    """Bodies and attributes are as they were, the ids are new, and the dead-letter queue is empty."""
    queue_url, dead_url = await _pair(aws)
    bodies = [f"dead {number} é" for number in range(13)]
    old = {await aws.send(dead_url, body) for body in bodies[1:]}
    made = await aws.sqs.send_message(
        QueueUrl=dead_url,
        MessageBody=bodies[0],
        MessageAttributes={"store": {"DataType": "String", "StringValue": "minio"}},
    )

    [queue] = await _queues(aws, queue_url).redrive()

    moved: list[MessageTypeDef] = []
    while len(moved) < 13:
        answer = await aws.sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1
        )
        moved += answer["Messages"]
    assert queue.redrive == Redrive(state="completed", moved=13, failed=0, to_move=13)
    assert sorted(each["Body"] for each in moved) == sorted(bodies)
    assert not {each["MessageId"] for each in moved} & {*old, made["MessageId"]}
    [attributes] = [each["MessageAttributes"] for each in moved if "MessageAttributes" in each]
    assert attributes["store"]["StringValue"] == "minio"
    assert (await aws.depth(dead_url)).visible == (await aws.depth(dead_url)).in_flight == 0


async def test_a_redrive_goes_on_where_it_was_left(aws: Aws) -> None:
    """A slice is bounded; each further request moves another, until nothing is left."""
    queue_url, dead_url = await _pair(aws)
    for number in range(25):
        await aws.send(dead_url, f"dead {number}")
    queues = _queues(aws, queue_url, slice_messages=20)

    [first] = await queues.redrive()
    [second] = await queues.redrive()

    assert first.redrive == Redrive(state="running", moved=20, failed=0, to_move=25)
    assert second.redrive == Redrive(state="completed", moved=5, failed=0, to_move=5)
    assert (await aws.depth(queue_url)).visible == 25
