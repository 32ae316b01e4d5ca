"""What the doctor finds about a bucket and its rules: drift, missing targets, closed policies, versions. Pure."""

from collections.abc import Iterator, Sequence

from app.wiring import policy as policies
from app.wiring.examined import Examination, SeenBucket, SeenSource
from app.wiring.findings import Finding, Severity, source_findings
from app.wiring.policy import S3
from app.wiring.rules import Rule, has_event_bridge, queue_of, rule_id, rules_of
from app.wiring.snapshot import Bucket, Queue


def findings(examination: Examination) -> list[Finding]:
    """Tell all, sources first."""
    found = [each for source in examination.sources for each in source_findings(source)]
    found += [each for bucket in examination.buckets for each in bucket_findings(bucket, sources=examination.sources)]
    if not examination.sources and examination.asked_for is None:
        found.append(
            Finding(
                code="no_sources",
                severity="info",
                about="sources",
                reason="No source of kind sqs is set up.",
                mend="bucketpost connect s3://BUCKET --queue NAME",
            )
        )
    return found


def bucket_findings(seen: SeenBucket, *, sources: Sequence[SeenSource]) -> Iterator[Finding]:
    """Tell all about one bucket."""
    about = f"bucket {seen.name}"
    if seen.bucket is None:
        yield from (
            Finding(
                code="unseen",
                severity="warning" if each.is_denied else "error",
                about=about,
                reason=each.reason,
                mend="Allow who runs this: s3:GetBucketLocation, s3:GetBucketVersioning, s3:GetBucketNotification"
                if each.is_denied
                else "",
            )
            for each in seen.unseen
        )
        return
    rules = rules_of(seen.bucket.configuration)
    found = [each for rule in rules for each in _rule(seen, seen.bucket, rule, sources)]
    found += _drift(seen, seen.bucket, rules, sources)
    yield from found
    if not any(each.severity in ("warning", "error") for each in found):
        yield Finding(code="rules_ok", severity="ok", about=about, reason=f"{len(rules)} rules, each with its target.")
    yield from _versioning(seen.bucket)
    if has_event_bridge(seen.bucket.configuration):
        yield Finding(
            code="event_bridge",
            severity="info",
            about=about,
            reason="Its events also go to EventBridge. Should they come here that way too, each is still one event.",
        )


def _rule(seen: SeenBucket, bucket: Bucket, rule: Rule, sources: Sequence[SeenSource]) -> Iterator[Finding]:
    about = f"bucket {bucket.name}: rule {rule.id}"
    region = (rule.arn.split(":") + [""] * 4)[3]
    if rule.target != "function" and region and region != bucket.region:
        yield Finding(
            code="region",
            severity="error",
            about=about,
            reason=f"Its target is in {region} and the bucket in {bucket.region}; S3 sends within one region only.",
        )
    if rule.is_ours and rule.id != rule_id(queue=queue_of(rule), prefix=rule.prefix, suffix=rule.suffix):
        yield Finding(
            code="rule_changed",
            severity="warning",
            about=about,
            reason="It is of connect's making and no longer as connect made it: somebody changed its prefix or suffix.",
            mend=_connect(bucket, rule, queue=queue_of(rule)),
        )
    targets = {"queue": seen.queues, "topic": seen.topics, "function": {}}[rule.target]
    if rule.arn not in targets:
        return
    target = targets[rule.arn]
    if target is None:
        yield Finding(
            code="no_target",
            severity="error",
            about=about,
            reason=f"The {rule.target} {rule.arn} does not exist: these events are lost, and S3 refuses any change of "
            f"the configuration as long as the rule is there.",
            mend=f"bucketpost disconnect s3://{bucket.name} --queue {rule.arn.rpartition(':')[2]}"
            if rule.is_ours and rule.target == "queue"
            else f"Take the rule out, or make the {rule.target} again.",
        )
        return
    is_read = isinstance(target, Queue) and _reading(sources, target)
    # Of a rule that is nobody's here only this much is known: S3 would refuse it, and with it every change.
    severity: Severity = "error" if rule.is_ours or is_read else "warning"
    yield from _target_policy(seen, bucket, rule, target.policy, severity=severity)
    if rule.is_ours and isinstance(target, Queue) and not is_read:
        yield Finding(
            code="not_read",
            severity="error",
            about=about,
            reason=f"No source reads the queue {target.name}: its messages end when they are too old.",
            mend=_connect(bucket, rule, queue=target.name),
        )


def _target_policy(
    seen: SeenBucket, bucket: Bucket, rule: Rule, policy: str, *, severity: Severity
) -> Iterator[Finding]:
    about = f"bucket {seen.name}: rule {rule.id}"
    _, partition, _, _, account, *_ = rule.arn.split(":")
    account = seen.owner or account
    make = policies.sends_to_queue if rule.target == "queue" else policies.publishes_to_topic
    name = "queue_arn" if rule.target == "queue" else "topic_arn"
    statement = make(bucket.name, account=account, **{name: rule.arn})
    ask = policies.ask_of(statement, partition=partition, bucket=bucket.name, account=account)
    judged = policies.judge(policy, ask)
    if not judged.is_allowed:
        yield Finding(
            code="policy",
            severity=severity,
            about=about,
            reason=f"The policy of {rule.arn} does not let S3 in for this bucket: these events are lost.",
            mend=policies.with_statement("", statement),
        )
    elif judged.denied_by:
        yield Finding(
            code="policy_denies",
            severity=severity,
            about=about,
            reason=f"The policy of {rule.arn} denies it to S3: statement {', '.join(judged.denied_by)}.",
        )
    elif judged.unclear:
        yield Finding(
            code="policy_may_deny",
            severity="info",
            about=about,
            reason=f"The policy of {rule.arn} may deny it to S3, under conditions not known here: statement "
            f"{', '.join(judged.unclear)}.",
        )


def _drift(seen: SeenBucket, bucket: Bucket, rules: Sequence[Rule], sources: Sequence[SeenSource]) -> Iterator[Finding]:
    """Tell of queues that expect this bucket's events and get none: another tool wrote over our rule."""
    arn = policies.bucket_arn(bucket.name)
    reached = {each.arn for each in rules}
    for source in sources:
        queue = source.queue
        if queue is None:
            continue
        topics = [
            each.arn for each in source.topics.values() if each and _names(policies.senders(each.policy, S3), arn)
        ]
        expects = _names(policies.senders(queue.policy, S3), arn)
        if (expects or topics) and not reached & {queue.arn, *topics}:
            yield Finding(
                code="rule_gone",
                severity="error",
                about=f"bucket {bucket.name}",
                reason=f"The queue {queue.name} is open to this bucket, and none of its rules sends there: the rule "
                f"was taken out, or another tool wrote over the configuration.",
                mend=f"bucketpost connect s3://{bucket.name} --queue {queue.name}",
            )
    known = {each.queue.arn for each in sources if each.queue} | {arn for each in sources for arn in each.topics}
    if not reached & known and not any(each.is_ours for each in rules):
        yield Finding(
            code="not_connected",
            severity="warning",
            about=f"bucket {seen.name}",
            reason="None of its rules sends to a queue that is read here.",
            mend=f"bucketpost connect s3://{bucket.name} --queue NAME",
        )


def _versioning(bucket: Bucket) -> Iterator[Finding]:
    if bucket.versioning in ("never", "suspended"):
        state = "is not versioned" if bucket.versioning == "never" else "has its versioning suspended"
        yield Finding(
            code="unversioned",
            severity="info",
            about=f"bucket {bucket.name}",
            reason=f"It {state}: of two quick writes of one key S3 may tell of one only, so this is no complete log.",
            mend=f"aws s3api put-bucket-versioning --bucket {bucket.name} --versioning-configuration Status=Enabled",
        )


def _names(senders: Sequence[str], bucket_arn: str) -> bool:
    """Tell whether a bucket is named by itself; a pattern for many says nothing about this one."""
    name = bucket_arn.rpartition(":")[2]
    return any(each.rpartition(":")[2] == name for each in senders)


def _reading(sources: Sequence[SeenSource], queue: Queue) -> bool:
    return any(each.queue is not None and each.queue.arn == queue.arn for each in sources)


def _connect(bucket: Bucket, rule: Rule, *, queue: str) -> str:
    options = [f"bucketpost connect s3://{bucket.name} --queue {queue}", f"--events {','.join(sorted(rule.events))}"]
    options += [f"--prefix '{rule.prefix}'"] if rule.prefix else []
    options += [f"--suffix '{rule.suffix}'"] if rule.suffix else []
    return " ".join(options)
