"""Resource policies: what one allows, and our statements in and out of it."""

import json
from typing import Any

import pytest

from app.domain.errors import SourceError
from app.wiring import policy as policies
from app.wiring.policy import Ask, judge, senders, with_statement, without_statement
from tests.unit.wiring.worlds import QUEUE_ARN, TOPIC_ARN

ASK = Ask(
    service="s3.amazonaws.com",
    action="sqs:SendMessage",
    resource=QUEUE_ARN,
    source_arn="arn:aws:s3:::photos",
    account="123456789012",
)
OPEN = {
    "Effect": "Allow",
    "Principal": {"Service": "s3.amazonaws.com"},
    "Action": "SQS:SendMessage",
    "Resource": QUEUE_ARN,
}
FOREIGN = {
    "Sid": "theirs",
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::1:root"},
    "Action": "sqs:*",
    "Resource": "*",
}


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def _if(**condition: Any) -> dict[str, Any]:
    return {
        **OPEN,
        "Condition": {
            name: {key.replace("__", ":"): value for key, value in keys.items()} for name, keys in condition.items()
        },
    }


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (OPEN, True),
        ({**OPEN, "Principal": "*"}, True),
        ({**OPEN, "Principal": {"AWS": "*"}}, True),
        ({**OPEN, "Principal": {"Service": ["events.amazonaws.com", "s3.amazonaws.com"]}}, True),
        ({**OPEN, "Principal": {"Service": "events.amazonaws.com"}}, False),
        ({**OPEN, "Principal": {"AWS": "123456789012"}}, False),
        ({**OPEN, "Action": ["sqs:Send*"]}, True),
        ({**OPEN, "Action": "*"}, True),
        ({**OPEN, "Action": "sqs:ReceiveMessage"}, False),
        ({**OPEN, "Resource": "arn:aws:sqs:*:*:up?oads"}, True),
        ({**OPEN, "Resource": TOPIC_ARN}, False),
        (_if(ArnLike={"aws__SourceArn": "arn:aws:s3:*:*:photos"}), True),
        (_if(ArnLike={"aws__SourceArn": ["arn:aws:s3:::other", "arn:aws:s3:::ph*"]}), True),
        (_if(ArnEquals={"aws__SourceArn": "arn:aws:s3:::photos"}), True),
        (_if(StringLike={"AWS__SourceArn": "arn:aws:s3:::photos*"}), True),
        (_if(ArnLike={"aws__SourceArn": "arn:aws:s3:*:*:photos-2"}), False),
        (_if(ArnLike={"aws__SourceArn": "arn:aws:s3:*:photos"}), False),
        (_if(StringEquals={"aws__SourceAccount": "123456789012"}), True),
        (_if(StringEquals={"aws__SourceAccount": "210987654321"}), False),
        (_if(StringNotEquals={"aws__SourceAccount": "210987654321"}), True),
        (_if(Bool={"aws__SecureTransport": True}), True),
        (_if(Bool={"aws__SecureTransport": "false"}), False),
        (_if(StringEqualsIfExists={"aws__SourceAccount": "123456789012"}), True),
        # What is not known here counts for nothing that lets in.
        (_if(StringEquals={"aws__PrincipalOrgID": "o-1"}), False),
        (_if(NumericLessThan={"aws__SourceAccount": "1"}), False),
        ({**OPEN, "Effect": "Deny"}, False),
    ],
)
def test_what_a_statement_allows(statement: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 -- pytest's
    """Only what certainly applies lets S3 in."""
    assert expected == judge(_policy(statement), ASK).is_allowed


def test_a_denial_is_told_as_certain_or_possible() -> None:
    """Denials with known conditions are judged, others named."""
    certain = {**OPEN, "Sid": "no", "Effect": "Deny"}
    insecure = {**_if(Bool={"aws__SecureTransport": "false"}), "Sid": "tls", "Effect": "Deny", "Principal": "*"}
    outsiders = {**_if(StringNotEquals={"aws__PrincipalOrgID": "o-1"}), "Effect": "Deny", "Principal": "*"}

    judged = judge(_policy(OPEN, certain, insecure, outsiders), ASK)

    assert judged.is_allowed
    assert judged.denied_by == ("no",)
    assert judged.unclear == ("number 4",)


def test_our_own_statements_answer_their_own_questions() -> None:
    """What connect writes is what it looks for the next time, and lets nobody else in."""
    for statement, bucket in (
        (policies.sends_to_queue("photos", queue_arn=QUEUE_ARN, account="123456789012"), "photos"),
        (policies.publishes_to_topic("photos", topic_arn=TOPIC_ARN, account="123456789012"), "photos"),
        (policies.topic_sends_to_queue(TOPIC_ARN, queue_arn=QUEUE_ARN), None),
    ):
        ask = policies.ask_of(statement, bucket=bucket, account="123456789012")
        stranger = Ask(
            service=ask.service, action=ask.action, resource=ask.resource, source_arn=f"{ask.source_arn}2", account="1"
        )

        assert judge(_policy(statement), ask).is_allowed
        assert not judge(_policy(statement), stranger).is_allowed


def test_statements_of_others_stay() -> None:
    """Ours goes in once and out again; the rest of the policy stays as it was."""
    before = json.dumps({"Version": "2008-10-17", "Id": "mine", "Statement": FOREIGN})
    ours = policies.sends_to_queue("photos", queue_arn=QUEUE_ARN, account="123456789012")

    once = with_statement(before, ours)
    twice = with_statement(once, ours)
    back = without_statement(twice, ours["Sid"])

    assert once == twice
    assert json.loads(once) == {"Version": "2008-10-17", "Id": "mine", "Statement": [FOREIGN, ours]}
    assert json.loads(back) == {"Version": "2008-10-17", "Id": "mine", "Statement": [FOREIGN]}
    assert without_statement(with_statement("", ours), ours["Sid"]) == ""


def test_who_may_send_is_read_from_the_source_arns() -> None:
    """A service without a source may send for anybody; a statement for all principals counts when it names a source."""
    mine = _if(ArnLike={"aws__SourceArn": "arn:aws:s3:*:*:photos"})

    assert senders(_policy(mine, FOREIGN), policies.S3) == ["arn:aws:s3:*:*:photos"]
    assert senders(_policy(OPEN), policies.S3) == ["*"]
    assert senders(_policy({**OPEN, "Principal": "*"}), policies.S3) == []
    assert senders(_policy(mine), policies.SNS) == []
    assert senders("", policies.S3) == []


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"Statement": 1}'])
def test_what_is_no_policy_is_said_so(text: str) -> None:
    """Text that is no policy raises in words."""
    with pytest.raises(SourceError, match="not JSON that AWS"):
        policies.statements_of(text)
