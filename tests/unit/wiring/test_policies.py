"""Policies: the least that is needed, put in beside what is there, found again when it is there already."""

import json
from typing import Any

import pytest

from app.wiring.policies import allows, gateway_policy, s3_may_send, topic_may_send, with_statement, without_statement

QUEUE = "arn:aws:sqs:eu-west-1:111122223333:events"
NEEDED = s3_may_send(QUEUE, bucket="photos", account="111122223333", partition="aws")
THEIRS: dict[str, Any] = {"Sid": "theirs", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": QUEUE}


def policy(*statements: Any, single: bool = False) -> str:
    """Write a policy; AWS also allows one statement alone."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements[0] if single else list(statements)})


def test_a_statement_is_put_in_beside_the_others() -> None:
    """And taken out again, which leaves what was there."""
    before = policy(THEIRS)

    after = with_statement(before, NEEDED)

    assert after is not None
    assert json.loads(after)["Statement"] == [THEIRS, NEEDED]
    taken = without_statement(after, str(NEEDED["Sid"]))
    assert taken is not None
    assert json.loads(taken) == json.loads(before)


def test_what_is_there_already_is_not_put_in_twice() -> None:
    """Nor is what stands there under another name, or alone."""
    assert with_statement(policy(NEEDED), NEEDED) is None
    assert with_statement(policy({**NEEDED, "Sid": "other", "Action": ["sqs:sendmessage"]}), NEEDED) is None
    assert with_statement(policy(NEEDED, single=True), NEEDED) is None


def test_an_older_form_of_ours_gives_way() -> None:
    """The statement with our name is replaced."""
    older = {**NEEDED, "Condition": {}}

    after = with_statement(policy(older, THEIRS), NEEDED)

    assert after is not None
    assert json.loads(after)["Statement"] == [THEIRS, NEEDED]


@pytest.mark.parametrize(
    ("statement", "is_allowed"),
    [
        (NEEDED, True),
        (
            {
                "Effect": "Allow",
                "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": QUEUE,
            },
            True,
        ),
        (
            {
                "Effect": "Allow",
                "Principal": {"Service": ["sns.amazonaws.com", "s3.amazonaws.com"]},
                "Action": ["SQS:*"],
                "Resource": QUEUE,
                "Condition": {"ArnLike": {"aws:SourceArn": ["arn:aws:s3:::photos", "arn:aws:s3:::other"]}},
            },
            True,
        ),
        ({**NEEDED, "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::other"}}}, False),
        ({**NEEDED, "Principal": {"Service": "sns.amazonaws.com"}}, False),
        ({**NEEDED, "Action": "sqs:ReceiveMessage"}, False),
        ({**NEEDED, "Effect": "Deny"}, False),
    ],
)
def test_a_wider_statement_of_others_is_enough(statement: dict[str, Any], is_allowed: bool) -> None:  # noqa: FBT001
    """For the same service, action and bucket."""
    assert allows(policy(THEIRS, statement), NEEDED) is is_allowed


@pytest.mark.parametrize("text", [None, "", "no json", "[]"])
def test_no_policy_allows_nothing(text: str | None) -> None:
    """Nor does one that cannot be read."""
    assert not allows(text, NEEDED)


def test_the_gateways_own_policy_names_just_its_sources() -> None:
    """No wildcard; nothing for what is not set up."""
    document = gateway_policy(queue_arns=[QUEUE, QUEUE], topic_arns=[], role_arns=[], dead_letter_arns=[])

    assert [each["Sid"] for each in document["Statement"]] == ["BucketpostReceive"]
    assert document["Statement"][0]["Resource"] == [QUEUE]
    assert "*" not in json.dumps(document)


def test_a_topic_may_send_its_own_messages_only() -> None:
    """Keyed on the topic."""
    topic_arn = "arn:aws:sns:eu-west-1:111122223333:uploads"

    assert topic_may_send(QUEUE, topic_arn=topic_arn)["Condition"] == {"ArnEquals": {"aws:SourceArn": topic_arn}}
