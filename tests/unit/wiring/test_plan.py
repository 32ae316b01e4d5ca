"""Plans: from nothing to everything, nothing when all stands, and a clear refusal of what cannot work."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from app.domain.errors import SettingsError
from app.wiring.plan import LEAST_MESSAGE_BYTES, Plan, plan
from app.wiring.snapshot import Bucket, Queue, Snapshot, Topic
from app.wiring.wanted import Wanted, bucket_in, checked, checked_endpoint

WANTED = Wanted(bucket="photos", queue="events")
REGION = "eu-west-1"


def snapshot(**changes: Any) -> Snapshot:
    """Make what stands: a bucket with no rule, and nothing else."""
    bucket = Bucket(name="photos", region=REGION, versioning=None, configuration={})
    nothing: dict[str, Any] = {"queue": None, "dead_letter_queue": None, "topic": None}
    return Snapshot(account="111122223333", **{"bucket": bucket, **nothing, **changes})


def queue(name: str = "events", *, region: str = REGION, **attributes: str) -> Queue:
    """Make a queue."""
    arn = f"arn:aws:sqs:{region}:111122223333:{name}"
    return Queue(name=name, url=f"https://sqs/{name}", arn=arn, attributes={"QueueArn": arn, **attributes})


def carried_out(before: Snapshot, wanted: Wanted, todo: Plan) -> Snapshot:
    """Make what stands after a plan."""
    attributes: Mapping[str, str] = todo.make_queue or (before.queue.attributes if before.queue else {})
    made = queue(wanted.queue, **{**attributes, **todo.set_queue})
    topic = before.topic
    if wanted.topic is not None:
        arn = before.arn("sns", wanted.topic)
        topic = Topic(name=wanted.topic, arn=arn, policy=todo.set_topic_policy, queue_arns=frozenset({made.arn}))
    return replace(
        before,
        queue=replace(made, attributes={**made.attributes, "QueueArn": made.arn}),
        dead_letter_queue=before.dead_letter_queue or queue(wanted.dead_letter_queue),
        topic=topic,
        bucket=replace(before.bucket, configuration=todo.configuration or before.bucket.configuration),
    )


@pytest.mark.parametrize("wanted", [WANTED, replace(WANTED, topic="uploads", prefix="img/", suffix=".jpg")])
def test_from_nothing_to_everything_and_then_nothing_more(wanted: Wanted) -> None:
    """The second plan is empty."""
    before = snapshot()

    first = plan(before, wanted)
    second = plan(carried_out(before, wanted, first), wanted)

    assert first.make_queue is not None
    assert first.make_dead_letter_queue is not None
    assert not first.is_empty
    assert second.is_empty
    assert (second.make_queue, second.configuration, dict(second.set_queue)) == (None, None, {})


def test_a_queue_made_is_safe_for_what_s3_sends() -> None:
    """Large enough, long polls, encrypted, with dead letters kept longer than its own messages."""
    todo = plan(snapshot(), WANTED)

    assert todo.make_queue is not None
    assert todo.make_dead_letter_queue is not None
    assert int(todo.make_queue["MaximumMessageSize"]) >= LEAST_MESSAGE_BYTES
    assert todo.make_queue["SqsManagedSseEnabled"] == "true"
    kept, kept_dead = todo.make_queue["MessageRetentionPeriod"], todo.make_dead_letter_queue["MessageRetentionPeriod"]
    assert int(kept) < int(kept_dead)
    redrive = json.loads(todo.make_queue["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"].endswith(":events-dead")


def test_a_queue_that_is_there_keeps_its_own_ways() -> None:
    """Only what S3 needs is changed: its size, and a statement beside those it has."""
    theirs = {"Sid": "theirs", "Effect": "Allow", "Principal": "*", "Action": "sqs:ReceiveMessage", "Resource": "*"}
    there = queue(
        VisibilityTimeout="7",
        MaximumMessageSize="1024",
        Policy=json.dumps({"Statement": [theirs]}),
        RedrivePolicy=json.dumps({"deadLetterTargetArn": "arn:aws:sqs:eu-west-1:1:morgue", "maxReceiveCount": 7}),
    )

    todo = plan(snapshot(queue=there), WANTED)

    assert set(todo.set_queue) == {"MaximumMessageSize", "Policy"}
    assert json.loads(todo.set_queue["Policy"])["Statement"][0] == theirs
    assert todo.make_dead_letter_queue is None


def test_an_overlap_is_refused_with_the_rule_that_is_in_the_way() -> None:
    """And with ways out."""
    configuration = {"QueueConfigurations": [{"Id": "theirs", "QueueArn": "arn:q", "Events": ["s3:ObjectCreated:Put"]}]}
    bucket = Bucket(name="photos", region=REGION, versioning=None, configuration=configuration)

    with pytest.raises(SettingsError, match="theirs: s3:ObjectCreated:Put"):
        plan(snapshot(bucket=bucket), WANTED)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (queue(region="us-east-1"), "within a region only"),
        (queue(KmsMasterKeyId="alias/aws/sqs"), "the key AWS manages"),
        (queue(Policy="no json"), "cannot be read"),
    ],
)
def test_what_cannot_work_is_refused(there: Queue, said: str) -> None:
    """Before anything is changed."""
    with pytest.raises(SettingsError, match=said):
        plan(snapshot(queue=there), WANTED)


@pytest.mark.parametrize(
    "text", ["photos", "s3://", "s3://Photos", "s3://a", "s3://photos/key", "s3://x--use1-az4--x-s3"]
)
def test_what_is_no_bucket_is_refused(text: str) -> None:
    """With what to write."""
    with pytest.raises(SettingsError):
        bucket_in(text)


@pytest.mark.parametrize(
    "wanted",
    [
        replace(WANTED, queue="events.fifo"),
        replace(WANTED, queue=""),
        replace(WANTED, queue="a b"),
        replace(WANTED, topic="a/b"),
        replace(WANTED, events=()),
        replace(WANTED, events=("s3:ObjectCreated*",)),
        replace(WANTED, prefix="a" * 1025),
        replace(WANTED, suffix="*.jpg"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(wanted: Wanted) -> None:
    """By its spelling."""
    with pytest.raises(SettingsError):
        checked(wanted)


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://host", "http://169.254.169.254", "http://host/path", "http://u:p@host"]
)
def test_a_bad_endpoint_is_refused(url: str) -> None:
    """Metadata addresses too."""
    with pytest.raises(SettingsError):
        checked_endpoint(url)
