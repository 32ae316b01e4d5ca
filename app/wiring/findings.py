"""What the doctor finds in a wiring: each finding with its severity, the reason, and what mends it. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from app.wiring import policies
from app.wiring.bucket_rules import QUEUES, Rule, is_ours, rules_of
from app.wiring.plan import LEAST_MESSAGE_BYTES
from app.wiring.snapshot import Bucket, Queue

Severity = Literal["ok", "info", "warning", "error"]

_LEAST_RECEIVES: Final = 5
_DEFAULT_RETENTION: Final = 345_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found. `mend` is the command, or the policy, that makes it right; empty where nothing need be done."""

    severity: Severity
    subject: str
    reason: str
    mend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A call that AWS refused, in its words."""

    action: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSeen:
    """A queue as the doctor could see it; `queue` is None where it could not, and `refusals` say why."""

    url: str
    queue: Queue | None
    dead_letter_queue: Queue | None = None
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSeen:
    """A bucket as the doctor could see it; the queues its rules name by ARN, None for one that is not there."""

    name: str
    bucket: Bucket | None
    refusals: tuple[Refusal, ...] = ()


def examine_queue(seen: QueueSeen) -> Iterator[Finding]:
    """Tell what is wrong with a source's queue."""
    for refusal in seen.refusals:
        yield _refused(seen.url, refusal)
    if seen.queue is None:
        return
    subject, attributes = seen.queue.name, seen.queue.attributes
    if seen.queue.arn.endswith(".fifo"):
        yield Finding(
            severity="error", subject=subject, reason="S3 cannot send to a FIFO queue.", mend="Use a standard one."
        )
    size = int(attributes.get("MaximumMessageSize", LEAST_MESSAGE_BYTES))
    if size < LEAST_MESSAGE_BYTES:
        yield Finding(
            severity="error",
            subject=subject,
            reason=f"It takes messages of {size} bytes; S3 sends up to {LEAST_MESSAGE_BYTES}: larger ones are lost.",
            mend=f"aws sqs set-queue-attributes --queue-url {seen.url} --attributes MaximumMessageSize=262144",
        )
    yield from _examine_encryption(seen.queue)
    yield from _examine_dead_letters(seen)
    yield from _examine_senders(seen.queue)


def examine_bucket(seen: BucketSeen, queues: dict[str, Queue | None]) -> Iterator[Finding]:
    """Tell what is wrong with the bucket and its rules; `queues` are those the rules name, by ARN."""
    for refusal in seen.refusals:
        yield _refused(f"s3://{seen.name}", refusal)
    if seen.bucket is None:
        return
    subject = f"s3://{seen.name}"
    rules = [each for each in rules_of(seen.bucket.configuration) if is_ours(each) or each.kind == QUEUES]
    if not any(is_ours(each) for each in rules_of(seen.bucket.configuration)):
        yield Finding(
            severity="warning" if rules else "error",
            subject=subject,
            reason="No rule of ours stands in its configuration: another tool may have put its own instead.",
            mend=f"bucketpost connect s3://{seen.name} --queue NAME",
        )
    for rule in rules:
        if rule.kind == QUEUES:
            yield from _examine_rule(subject, seen.bucket, rule, queues.get(rule.destination_arn))
    if seen.bucket.versioning != "Enabled":
        yield Finding(
            severity="warning",
            subject=subject,
            reason="It keeps no versions, so two quick writes of one key may be told by one event only.",
            mend=f"aws s3api put-bucket-versioning --bucket {seen.name} --versioning-configuration Status=Enabled",
        )
    if "EventBridgeConfiguration" in seen.bucket.configuration:
        yield Finding(
            severity="info",
            subject=subject,
            reason="It sends everything to EventBridge too; what reaches a queue by both ways is one event.",
        )


def _examine_rule(subject: str, bucket: Bucket, rule: Rule, queue: Queue | None) -> Iterator[Finding]:
    # What others wired is theirs to mend.
    broken: Severity = "error" if is_ours(rule) else "warning"
    if queue is None:
        yield Finding(
            severity=broken,
            subject=subject,
            reason=f"The rule {rule.id} sends to {rule.destination_arn}, which is not there or may not be looked at.",
            mend=f"bucketpost connect s3://{bucket.name} --queue {rule.destination_arn.rsplit(':', 1)[-1]}",
        )
        return
    region, account = queue.arn.split(":")[3:5]
    if region != bucket.region:
        yield Finding(
            severity=broken,
            subject=subject,
            reason=f"The bucket is in {bucket.region}, the queue {queue.name} in {region}: S3 sends within one only.",
            mend=f"Make the queue in {bucket.region} and connect it.",
        )
    needed = policies.s3_may_send(queue.arn, bucket=bucket.name, account=account, partition=queue.arn.split(":")[1])
    if not policies.allows(queue.attributes.get("Policy"), needed):
        yield Finding(
            severity=broken,
            subject=queue.name,
            reason=f"Its policy does not let S3 send events of {bucket.name}: none arrives.",
            mend=json.dumps({"Version": policies.VERSION, "Statement": [needed]}),
        )
    else:
        yield Finding(
            severity="ok",
            subject=subject,
            reason=f"{', '.join(rule.events)} of {rule.prefix}*{rule.suffix} reach {queue.name}.",
        )


def _examine_encryption(queue: Queue) -> Iterator[Finding]:
    key = queue.attributes.get("KmsMasterKeyId", "")
    if key.endswith("alias/aws/sqs"):
        yield Finding(
            severity="error",
            subject=queue.name,
            reason="It is encrypted with the key AWS manages, which S3 may not use and nobody can change.",
            mend=(
                f"aws sqs set-queue-attributes --queue-url {queue.url} "
                '--attributes \'{"KmsMasterKeyId": "", "SqsManagedSseEnabled": "true"}\''
            ),
        )
    elif key:
        yield Finding(
            severity="warning",
            subject=queue.name,
            reason=f"It is encrypted with {key}: its policy must let S3 use it, and the gateway needs kms:Decrypt.",
            mend=json.dumps(policies.key_statement()),
        )
    elif queue.attributes.get("SqsManagedSseEnabled") == "false":
        yield Finding(
            severity="warning",
            subject=queue.name,
            reason="It is not encrypted at rest.",
            mend=f"aws sqs set-queue-attributes --queue-url {queue.url} --attributes SqsManagedSseEnabled=true",
        )


def _examine_dead_letters(seen: QueueSeen) -> Iterator[Finding]:
    queue = seen.queue
    if queue is None:
        return
    if "RedrivePolicy" not in queue.attributes:
        yield Finding(
            severity="warning",
            subject=queue.name,
            reason="It has no dead-letter queue: what cannot be received well is received again until it is too old.",
            mend="bucketpost connect s3://BUCKET --queue " + queue.name,
        )
        return
    receives = _receives(queue.attributes["RedrivePolicy"])
    if receives < _LEAST_RECEIVES:
        yield Finding(
            severity="warning",
            subject=queue.name,
            reason=f"It gives a message up after {receives} receives: a few restarts are enough to lose sight of it.",
            mend=f"Set maxReceiveCount of its RedrivePolicy to {_LEAST_RECEIVES} or more.",
        )
    dead = seen.dead_letter_queue
    if dead is None:
        yield Finding(
            severity="warning",
            subject=queue.name,
            reason="Its dead-letter queue is not there, or may not be looked at.",
            mend="bucketpost aws policy",
        )
        return
    kept, kept_dead = (int(each.attributes.get("MessageRetentionPeriod", _DEFAULT_RETENTION)) for each in (queue, dead))
    if kept_dead <= kept:
        yield Finding(
            severity="warning",
            subject=dead.name,
            reason=f"It keeps messages {kept_dead} s, the queue {kept} s; the age counts from the first sending.",
            mend=f"aws sqs set-queue-attributes --queue-url {dead.url} --attributes MessageRetentionPeriod=1209600",
        )
    waiting = int(dead.attributes.get("ApproximateNumberOfMessages", "0"))
    if waiting:
        yield Finding(
            severity="warning",
            subject=dead.name,
            reason=f"{waiting} messages wait in it.",
            mend="POST /v1/sources/{id}/dead-letter-queues/redrive",
        )


def _examine_senders(queue: Queue) -> Iterator[Finding]:
    if not queue.attributes.get("Policy"):
        yield Finding(
            severity="error",
            subject=queue.name,
            reason="It has no policy, so nobody outside the account's own roles may send to it: neither S3 nor SNS.",
            mend="bucketpost connect s3://BUCKET --queue " + queue.name,
        )


def _receives(redrive_policy: str) -> int:
    try:
        return int(json.loads(redrive_policy)["maxReceiveCount"])
    except (ValueError, KeyError, TypeError):
        return 0


def _refused(subject: str, refusal: Refusal) -> Finding:
    return Finding(
        severity="error",
        subject=subject,
        reason=f"{refusal.action} is refused: {refusal.code}: {refusal.message}",
        mend="bucketpost aws policy",
    )
