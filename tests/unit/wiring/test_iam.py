"""The gateway's own policy: exactly the queues it reads, and as whom."""

from app.wiring.iam import ConfirmedTopic, ReadQueue, gateway_policy, queue_arn
from tests.unit.wiring.worlds import DEAD_ARN, QUEUE_ARN, TOPIC_ARN

ROLE = "arn:aws:iam::123456789012:role/reader"


def _by_sid(**arguments: object) -> dict[str, dict[str, object]]:
    made = gateway_policy(**{"queues": [], **arguments})  # type: ignore[arg-type]  # the tests' own arguments
    return {each["Sid"]: each for each in made["Statement"]}


def test_reading_names_each_queue_and_nothing_more() -> None:
    """Four actions on the queues that are read, the redrive's on their dead-letter queues."""
    made = _by_sid(queues=[ReadQueue(arn=QUEUE_ARN, dead_letter_arn=DEAD_ARN), ReadQueue(arn="arn:aws:sqs:r:1:b")])

    assert made["ReadQueues"]["Resource"] == [QUEUE_ARN, "arn:aws:sqs:r:1:b"]
    assert made["ReadQueues"]["Action"] == [
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:GetQueueAttributes",
    ]
    assert made["ReadDeadLetters"]["Resource"] == [DEAD_ARN]
    assert made["RedriveInto"] == {**made["RedriveInto"], "Action": ["sqs:SendMessage"], "Resource": [QUEUE_ARN]}
    assert set(made) == {"ReadQueues", "ReadDeadLetters", "RedriveInto"}


def test_a_role_has_a_policy_of_its_own() -> None:
    """The process may only assume the role; the role may read the queue."""
    queues = [ReadQueue(arn=QUEUE_ARN, role_arn=ROLE)]

    assert {sid: each["Resource"] for sid, each in _by_sid(queues=queues).items()} == {"AssumeRoles": [ROLE]}
    assert {sid: each["Resource"] for sid, each in _by_sid(queues=queues, role_arn=ROLE).items()} == {
        "ReadQueues": [QUEUE_ARN]
    }


def test_topics_are_confirmed_and_nothing_else() -> None:
    """A source that SNS pushes to needs one action on its topics."""
    made = _by_sid(topics=[ConfirmedTopic(arn=TOPIC_ARN)])

    assert made == {
        "ConfirmTopics": {
            "Sid": "ConfirmTopics",
            "Effect": "Allow",
            "Action": ["sns:ConfirmSubscription"],
            "Resource": [TOPIC_ARN],
        }
    }


def test_keys_are_named_by_arn_or_asked_for_by_alias() -> None:
    """A key's id becomes its ARN; an alias is no resource and becomes a condition; AWS's own keys need nothing."""
    keys = ["1234", "arn:aws:kms:eu-west-1:1:key/5", "alias/mine", "alias/aws/sqs"]

    made = _by_sid(queues=[ReadQueue(arn=QUEUE_ARN, key=each) for each in keys])

    assert made["DecryptQueues"]["Resource"] == [
        "arn:aws:kms:eu-west-1:123456789012:key/1234",
        "arn:aws:kms:eu-west-1:1:key/5",
    ]
    assert made["DecryptAlias1"]["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/mine"}}


def test_an_arn_is_read_from_a_url() -> None:
    """The region is the source's; what a URL does not tell is open."""
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/uploads"

    assert queue_arn(url, region="eu-west-1") == QUEUE_ARN
    assert queue_arn(url, region="cn-north-1").startswith("arn:aws-cn:sqs:")
    assert queue_arn("http://localhost:9324/queue/uploads", region=None) == "arn:aws:sqs:*:*:uploads"


def test_no_sources_need_nothing() -> None:
    """There is then no statement."""
    assert gateway_policy([]) == {"Version": "2012-10-17", "Statement": []}
