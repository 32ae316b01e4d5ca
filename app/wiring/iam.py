"""The gateway's own least policy, for the identity it runs as or for a role it assumes. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from app.aws.partitions import partition_of
from app.wiring.plan import AWS_KEYS

# SSE-SQS needs nothing; of a customer's key, reading needs only this.
_DECRYPT: Final = "kms:Decrypt"
READ: Final = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes")
# Listing dead letters, and having AWS move them back; the rest of what that takes is on the queue they go to.
DEAD_LETTERS: Final = (
    "sqs:GetQueueAttributes",
    "sqs:ListMessageMoveTasks",
    "sqs:StartMessageMoveTask",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadQueue:
    """A queue that is read: its ARN, that of its dead-letter queue, its key, and the role it is read as."""

    arn: str
    dead_letter_arn: str | None = None
    key: str | None = None
    role_arn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedTopic:
    """A topic whose subscription the gateway confirms, and as whom."""

    arn: str
    role_arn: str | None = None


def gateway_policy(
    queues: Sequence[ReadQueue], topics: Sequence[ConfirmedTopic] = (), *, role_arn: str | None = None
) -> dict[str, Any]:
    """Give the policy of the process's own identity, or of a role it assumes."""
    mine = [each for each in queues if each.role_arn == role_arn]
    statements = [
        *_queues(mine),
        *_keys(mine),
        _statement("ConfirmTopics", ["sns:ConfirmSubscription"], [t.arn for t in topics if t.role_arn == role_arn]),
    ]
    if role_arn is None:
        roles = {each for each in (*(q.role_arn for q in queues), *(t.role_arn for t in topics)) if each}
        statements.append(_statement("AssumeRoles", ["sts:AssumeRole"], roles))
    return {"Version": "2012-10-17", "Statement": [each for each in statements if each["Resource"]]}


def queue_arn(url: str, *, region: str | None) -> str:
    """Give the ARN of the queue with this URL; a part that the URL does not tell is `*`."""
    account, _, name = urlsplit(url).path.strip("/").rpartition("/")
    account = account.rpartition("/")[2]
    account = account if re.fullmatch("[0-9]{12}", account) else "*"
    return f"arn:{partition_of(region)}:sqs:{region or '*'}:{account}:{name}"


def _queues(queues: Sequence[ReadQueue]) -> list[dict[str, Any]]:
    redrivable = [each for each in queues if each.dead_letter_arn]
    return [
        _statement("ReadQueues", READ, [each.arn for each in queues]),
        _statement("ReadDeadLetters", DEAD_LETTERS, [str(each.dead_letter_arn) for each in redrivable]),
        _statement("RedriveInto", ["sqs:SendMessage"], [each.arn for each in redrivable]),
    ]


def _keys(queues: Sequence[ReadQueue]) -> list[dict[str, Any]]:
    keys = {_key_arn(each.key, each.arn) for each in queues if each.key and each.key not in AWS_KEYS}
    plain = sorted(each for each in keys if ":alias/" not in each)
    aliases = sorted(each for each in keys if ":alias/" in each)
    statements = [_statement("DecryptQueues", [_DECRYPT], plain)]
    # An alias is no resource in a policy; the key behind it is asked for by it.
    for place, alias in enumerate(aliases, 1):
        arn, _, name = alias.partition(":alias/")
        statements.append(
            {
                **_statement(f"DecryptAlias{place}", [_DECRYPT], [f"{arn}:key/*"]),
                "Condition": {"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{name}"}},
            }
        )
    return statements


def _key_arn(key: str, queue: str) -> str:
    if key.startswith("arn:"):
        return key
    _, partition, _, region, account, *_ = queue.split(":")
    return f"arn:{partition}:kms:{region}:{account}:{key if key.startswith('alias/') else f'key/{key}'}"


def _statement(sid: str, actions: Sequence[str], resources: Iterable[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": sorted(set(resources))}
