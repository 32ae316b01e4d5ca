"""Policies of queues, topics and keys: what one allows to an AWS service, and our statements in and out of it. Pure.

Only what can be told from the policy itself; what depends on a condition this file does not know is `unclear`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.domain.errors import SourceError

Statement = Mapping[str, Any]

S3: Final = "s3.amazonaws.com"
SNS: Final = "sns.amazonaws.com"
SEND: Final = "sqs:SendMessage"
PUBLISH: Final = "sns:Publish"
_VERSION: Final = "2012-10-17"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a policy is asked: whether this service may do that to this resource, on behalf of this source."""

    service: str
    action: str
    resource: str
    source_arn: str
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a policy says. `denied_by` certainly denies, `unclear` may deny: the statements' names."""

    is_allowed: bool
    denied_by: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()


def bucket_arn(bucket: str, *, partition: str = "aws") -> str:
    """Give a bucket's ARN as S3 names it to queues and topics."""
    return f"arn:{partition}:s3:::{bucket}"


def sends_to_queue(bucket: str, *, queue_arn: str, account: str) -> dict[str, Any]:
    """Give the least statement with which S3 may send one bucket's events to a queue."""
    return _from_bucket(bucket, action=SEND, resource=queue_arn, account=account)


def publishes_to_topic(bucket: str, *, topic_arn: str, account: str) -> dict[str, Any]:
    """Give the least statement with which S3 may publish one bucket's events to a topic."""
    return _from_bucket(bucket, action=PUBLISH, resource=topic_arn, account=account)


def topic_sends_to_queue(topic_arn: str, *, queue_arn: str) -> dict[str, Any]:
    """Give the least statement with which one topic may send to a queue."""
    return {
        "Sid": f"BucketpostSNS{_short(topic_arn)}",
        "Effect": "Allow",
        "Principal": {"Service": SNS},
        "Action": SEND,
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    }


def key_statement(service: str) -> dict[str, Any]:
    """Give what the policy of a customer managed key needs so that a service can send to what it encrypts."""
    return {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
        "Resource": "*",
    }


def ask_of(statement: Statement, *, partition: str = "aws", bucket: str | None = None, account: str = "") -> Ask:
    """Give the question that one of our own statements answers with yes."""
    condition = statement["Condition"]
    source = bucket_arn(bucket, partition=partition) if bucket else condition["ArnEquals"]["aws:SourceArn"]
    return Ask(
        service=statement["Principal"]["Service"],
        action=statement["Action"],
        resource=statement["Resource"],
        source_arn=source,
        account=account,
    )


def statements_of(policy: str | None) -> list[Statement]:
    """Read a policy's statements. Raises SourceError when it is no policy."""
    if not policy:
        return []
    try:
        found = json.loads(policy)
        given = found.get("Statement", [])
        statements = [given] if isinstance(given, dict) else list(given)
    except (ValueError, AttributeError, TypeError) as error:
        raise SourceError(f"The policy is not JSON that AWS could have given: {policy[:100]!r}.") from error
    return [each for each in statements if isinstance(each, dict)]


def judge(policy: str | None, ask: Ask) -> Judgement:
    """Tell whether a policy lets a service do what it is asked about."""
    statements = statements_of(policy)
    names = {id(each): str(each.get("Sid") or f"number {place}") for place, each in enumerate(statements, 1)}
    denying = [(each, _applies(each, ask)) for each in statements if each.get("Effect") == "Deny"]
    return Judgement(
        is_allowed=any(each.get("Effect") == "Allow" and _applies(each, ask) is True for each in statements),
        denied_by=tuple(names[id(each)] for each, applies in denying if applies is True),
        unclear=tuple(names[id(each)] for each, applies in denying if applies is None),
    )


def senders(policy: str | None, service: str) -> list[str]:
    """Give the source ARNs, patterns among them, for which a policy allows something to a service; "*" for any."""
    found: list[str] = []
    for each in statements_of(policy):
        if each.get("Effect") != "Allow" or _is_principal(each, service) is not True:
            continue
        arns = [
            arn
            for operator, keys in (each.get("Condition") or {}).items()
            if operator.lower().startswith(("arn", "string")) and "not" not in operator.lower()
            for key, values in keys.items()
            if key.lower() == "aws:sourcearn"
            for arn in _many(values)
        ]
        # A statement for anybody is there for other accounts more often than for a service, unless it names a source.
        if arns or _names_service(each, service):
            found += arns or ["*"]
    return found


def with_statement(policy: str | None, statement: Statement) -> str:
    """Give the policy with this statement in place of any of its Sid, and all others as they were."""
    kept: dict[str, Any] = json.loads(policy) if policy else {"Version": _VERSION}
    others = [each for each in statements_of(policy) if each.get("Sid") != statement["Sid"]]
    return json.dumps({**kept, "Statement": [*others, dict(statement)]})


def without_statement(policy: str | None, sid: str) -> str:
    """Give the policy without the statement of this Sid; empty when no statement is left."""
    given = statements_of(policy)
    others = [each for each in given if each.get("Sid") != sid]
    if not policy or len(others) == len(given):
        return policy or ""
    return json.dumps({**json.loads(policy), "Statement": others}) if others else ""


def _from_bucket(bucket: str, *, action: str, resource: str, account: str) -> dict[str, Any]:
    partition = resource.split(":")[1]
    return {
        "Sid": f"BucketpostS3{_short(bucket)}",
        "Effect": "Allow",
        "Principal": {"Service": S3},
        "Action": action,
        "Resource": resource,
        "Condition": {
            "ArnLike": {"aws:SourceArn": f"arn:{partition}:s3:*:*:{bucket}"},
            # A bucket's name alone is no proof: it can be deleted, and made again by somebody else.
            "StringEquals": {"aws:SourceAccount": account},
        },
    }


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _applies(statement: Statement, ask: Ask) -> bool | None:
    """Tell whether a statement is about what is asked; None when that depends on what is not known here."""
    parts = (
        _is_principal(statement, ask.service),
        _is_action(statement, ask.action),
        _is_resource(statement, ask.resource),
        _is_condition(statement.get("Condition") or {}, ask),
    )
    if False in parts:
        return False
    return None if None in parts else True


def _is_principal(statement: Statement, service: str) -> bool | None:
    principal = statement.get("Principal")
    if principal is None:
        return None
    if principal == "*" or "*" in _many(_member(principal, "AWS")):
        return True
    return service in _many(_member(principal, "Service"))


def _names_service(statement: Statement, service: str) -> bool:
    return service in _many(_member(statement.get("Principal"), "Service"))


def _is_action(statement: Statement, action: str) -> bool:
    if "NotAction" in statement:
        return not any(_like(action.lower(), each.lower()) for each in _many(statement["NotAction"]))
    return any(_like(action.lower(), each.lower()) for each in _many(statement.get("Action")))


def _is_resource(statement: Statement, resource: str) -> bool:
    if "NotResource" in statement:
        return not any(_like(resource, each) for each in _many(statement["NotResource"]))
    # The policy of a key or a topic may leave it out.
    return "Resource" not in statement or any(_like(resource, each) for each in _many(statement["Resource"]))


def _is_condition(condition: Mapping[str, Mapping[str, Any]], ask: Ask) -> bool | None:
    known = {
        "aws:sourcearn": ask.source_arn,
        "aws:sourceaccount": ask.account,
        "aws:securetransport": "true",
        "aws:principalisawsservice": "true",
        "aws:principalservicename": ask.service,
    }
    answers = [
        _is_met(operator.lower().removesuffix("ifexists"), known.get(key.lower()), _many(values))
        for operator, keys in condition.items()
        for key, values in keys.items()
    ]
    if False in answers:
        return False
    return None if None in answers else True


def _is_met(operator: str, value: str | None, wanted: Sequence[str]) -> bool | None:
    if not value:
        return None
    base = operator.replace("not", "")
    if base in ("stringequals", "bool"):
        answer = value in wanted
    elif base == "stringequalsignorecase":
        answer = value.lower() in [each.lower() for each in wanted]
    elif base == "stringlike":
        answer = any(_like(value, each) for each in wanted)
    elif base in ("arnlike", "arnequals"):
        answer = any(_arn_like(value, each) for each in wanted)
    else:
        return None
    return answer != ("not" in operator)


def _arn_like(arn: str, pattern: str) -> bool:
    """Compare as IAM does: six parts, each with wildcards of its own."""
    parts, patterns = arn.split(":", 5), pattern.split(":", 5)
    return len(parts) == len(patterns) and all(_like(part, each) for part, each in zip(parts, patterns, strict=True))


def _like(text: str, pattern: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _many(value: object) -> list[str]:
    if value is None:
        return []
    return (
        [str(each) for each in value]
        if isinstance(value, list)
        else [str(value).lower() if isinstance(value, bool) else str(value)]
    )
