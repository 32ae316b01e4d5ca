"""The policies a wiring needs, no wider than that, and how a statement is put into a policy that is there. Pure.

Amazon S3 user guide, "Granting permissions to publish event notification messages to a destination".
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

Statement = Mapping[str, Any]
VERSION: Final = "2012-10-17"


def s3_may_send(queue_arn: str, *, bucket: str, account: str, partition: str) -> Statement:
    """Let S3 send one bucket's events to a queue."""
    return _s3_may("SQS:SendMessage", queue_arn, bucket=bucket, account=account, partition=partition)


def s3_may_publish(topic_arn: str, *, bucket: str, account: str, partition: str) -> Statement:
    """Let S3 publish one bucket's events to a topic."""
    return _s3_may("SNS:Publish", topic_arn, bucket=bucket, account=account, partition=partition)


def topic_may_send(queue_arn: str, *, topic_arn: str) -> Statement:
    """Let SNS send one topic's messages to a queue."""
    return {
        "Sid": f"bucketpost-{topic_arn.rsplit(':', 1)[-1]}",
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "SQS:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    }


def key_statement() -> Statement:
    """Let S3 use a customer managed key: to be added to that key's policy by hand."""
    return {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
        "Resource": "*",
    }


def with_statement(policy: str | None, statement: Statement) -> str | None:
    """Put a statement into a policy, in the place of an earlier one with its Sid; None when it is there already.

    Raises ValueError for a policy that is no JSON object.
    """
    document = _read(policy)
    statements = _statements(document)
    if any(_same(each, statement) for each in statements):
        return None
    kept = [each for each in statements if each.get("Sid") != statement["Sid"]]
    return json.dumps({**document, "Statement": [*kept, dict(statement)]}, indent=2)


def without_statement(policy: str | None, sid: str) -> str | None:
    """Take a statement out; None when it is not there, an empty text when nothing is left."""
    document = _read(policy)
    statements = _statements(document)
    kept = [each for each in statements if each.get("Sid") != sid]
    if len(kept) == len(statements):
        return None
    return json.dumps({**document, "Statement": kept}, indent=2) if kept else ""


def allows(policy: str | None, statement: Statement) -> bool:
    """Tell whether a policy holds a statement, or a wider one for the same service, action and source."""
    try:
        statements = _statements(_read(policy))
    except ValueError:
        return False
    return any(_same(each, statement) or _covers(each, statement) for each in statements)


def gateway_policy(
    *, queue_arns: Sequence[str], topic_arns: Sequence[str], role_arns: Sequence[str], dead_letter_arns: Sequence[str]
) -> Mapping[str, Any]:
    """Give what the gateway itself needs at AWS for its sources, and no more."""
    statements: list[Statement] = []
    if queue_arns:
        statements.append(
            _allow(
                "Receive",
                ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"],
                queue_arns,
            )
        )
    if dead_letter_arns:
        statements += [
            _allow(
                "Redrive",
                [
                    "sqs:StartMessageMoveTask",
                    "sqs:ListMessageMoveTasks",
                    "sqs:ReceiveMessage",
                    "sqs:DeleteMessage",
                    "sqs:GetQueueAttributes",
                    "sqs:GetQueueUrl",
                ],
                dead_letter_arns,
            ),
            _allow("RedriveTo", ["sqs:SendMessage"], queue_arns),
        ]
    if topic_arns:
        statements.append(_allow("Confirm", ["sns:ConfirmSubscription"], topic_arns))
    if role_arns:
        statements.append(_allow("Roles", ["sts:AssumeRole"], role_arns))
    return {"Version": VERSION, "Statement": statements}


def _s3_may(action: str, arn: str, *, bucket: str, account: str, partition: str) -> Statement:
    return {
        "Sid": f"bucketpost-{bucket}",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": action,
        "Resource": arn,
        "Condition": {
            "ArnLike": {"aws:SourceArn": f"arn:{partition}:s3:*:*:{bucket}"},
            "StringEquals": {"aws:SourceAccount": account},
        },
    }


def _allow(sid: str, actions: Sequence[str], resources: Sequence[str]) -> Statement:
    return {"Sid": f"Bucketpost{sid}", "Effect": "Allow", "Action": list(actions), "Resource": sorted(set(resources))}


def _read(policy: str | None) -> dict[str, Any]:
    if not policy:
        return {"Version": VERSION, "Statement": []}
    document = json.loads(policy)
    if not isinstance(document, dict):
        raise ValueError("The policy is no JSON object.")  # noqa: TRY004 -- as for what is no JSON at all
    return document


def _statements(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = document.get("Statement", [])
    return [each for each in (found if isinstance(found, list) else [found]) if isinstance(each, dict)]


def _same(one: Statement, other: Statement) -> bool:
    return _normal(one) == _normal(other)


def _normal(statement: Statement) -> Mapping[str, Any]:
    action = statement.get("Action")
    actions = sorted(each.lower() for each in ([action] if isinstance(action, str) else action or ()))
    return {**{name: value for name, value in statement.items() if name != "Sid"}, "Action": actions}


def _covers(wide: Statement, statement: Statement) -> bool:
    """Tell whether a statement of others lets the same service do the same, for this source or for all."""
    service = statement["Principal"]["Service"]
    principal = wide.get("Principal")
    services = [] if not isinstance(principal, Mapping) else principal.get("Service", [])
    is_for_service = principal == "*" or service in ([services] if isinstance(services, str) else services)
    actions = [
        each.lower() for each in ([wide["Action"]] if isinstance(wide.get("Action"), str) else wide.get("Action", ()))
    ]
    action = str(statement["Action"]).lower()
    is_allowed = any(each in (action, f"{action.split(':')[0]}:*", "*") for each in actions)
    return wide.get("Effect") == "Allow" and is_for_service and is_allowed and _source_fits(wide, statement)


def _source_fits(wide: Statement, statement: Statement) -> bool:
    wanted = next(
        value
        for condition in statement["Condition"].values()
        for name, value in condition.items()
        if name == "aws:SourceArn"
    )
    conditions = wide.get("Condition", {})
    named = [
        value
        for condition in conditions.values()
        for name, value in condition.items()
        if name.lower() == "aws:sourcearn"
    ]
    if not named:
        return True
    bucket = wanted.rsplit(":", 1)[-1]
    flat = [each for value in named for each in (value if isinstance(value, list) else [value])]
    return any(each == wanted or each.rsplit(":", 1)[-1] in (bucket, "*") for each in flat)
