"""What the config of an SNS source may say."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from app.domain.configuration import Source
from app.domain.ids import DEFAULT_TENANT, SourceId
from app.sources import KINDS, PushKind
from app.sources.sns_config import SnsConfig, parse_topic
from tests.bed.sns_authority import TOPIC


def test_topics_are_enough() -> None:
    """Everything else is AWS's default."""
    config = SnsConfig.model_validate({"topic_arns": [TOPIC]})

    assert (config.endpoint_url, config.role_arn, config.external_id, config.profile) == (None, None, None, "auto")
    assert config.topics == {TOPIC: parse_topic(TOPIC)}


def test_a_topic_says_where_it_is() -> None:
    """By its ARN."""
    topic = parse_topic("arn:aws-cn:sns:cn-northwest-1:123456789012:t.fifo")

    assert (topic.partition, topic.region, topic.account) == ("aws-cn", "cn-northwest-1", "123456789012")
    assert topic.suffix == "amazonaws.com.cn"


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "uploads",
        "arn:aws:sqs:us-east-1:123456789012:uploads",
        "arn:aws:sns:us-east-1:12345678901:uploads",
        "arn:aws:sns:us-east-1:123456789012:",
        "arn:aws:sns:us-east-1:123456789012:a:b",
        "arn:aws:sns::123456789012:uploads",
        "arn:aws:sns:s3-us-west-2:123456789012:a-bucket-named-sns",
        "arn:aws:sns:us-east-1.evil.test/:123456789012:uploads",
        "arn:aws:sns:us-east-1\n:123456789012:uploads",
        f"{TOPIC}\n",
        f" {TOPIC}",
        "arn:aws-iso:sns:us-iso-east-1:123456789012:uploads",
        "arn:aws:sns:us-east-\u0661:123456789012:uploads",
    ],
)
def test_what_is_no_topic_of_a_known_partition_is_refused(arn: str) -> None:
    """The region becomes part of a host's name."""
    with pytest.raises(ValidationError, match="topic_arns"):
        SnsConfig.model_validate({"topic_arns": [arn]})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"topic_arns": []}, "topic_arns"),
        ({"topic_arns": [f"{TOPIC}{number}" for number in range(51)]}, "topic_arns"),
        ({"topic_arns": TOPIC}, "topic_arns"),
        ({"endpoint_url": "ftp://localhost"}, "endpoint_url"),
        ({"endpoint_url": "http://user:pw@localhost"}, "endpoint_url"),
        ({"endpoint_url": "http://169.254.169.254"}, "endpoint_url"),
        ({"endpoint_url": "http://0xa9fea9fe"}, "endpoint_url"),
        ({"endpoint_url": "http://metadata.google.internal"}, "endpoint_url"),
        ({"role_arn": "role"}, "role_arn"),
        ({"role_arn": "arn:aws:iam::123456789012:user/somebody"}, "role_arn"),
        ({"role_arn": "arn:aws:iam::123456789012:role/r\n"}, "role_arn"),
        ({"external_id": ""}, "external_id"),
        ({"external_id": "without-a-role"}, "set role_arn too"),
        ({"profile": "other"}, "profile"),
        ({"auto_confirm": True}, "auto_confirm"),
    ],
)
def test_what_cannot_work_is_an_error_of_its_field(changes: dict[str, object], field: str) -> None:
    """Before anything is kept."""
    with pytest.raises(ValidationError, match=field):
        SnsConfig.model_validate({"topic_arns": [TOPIC], **changes})


async def test_a_source_is_opened_from_its_row() -> None:
    """Without any call yet."""
    now = datetime.now(UTC)
    kind = KINDS["sns"]
    assert isinstance(kind, PushKind)

    source = kind.open(
        Source(
            id=SourceId(bytes(16)),
            tenant_id=DEFAULT_TENANT,
            name="tested",
            kind="sns",
            config={"topic_arns": [TOPIC], "role_arn": "arn:aws:iam::123456789012:role/team/confirm"},
            created_at=now,
            updated_at=now,
        ),
        lambda: now,
    )
    await source.aclose()

    assert kind.road == "sns"
