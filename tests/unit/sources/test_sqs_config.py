"""What a source of kind `sqs` may be told. How it then behaves is in tests/contract/test_sources.py."""

import pytest
from pydantic import ValidationError

from app.domain.configuration import JSON
from app.sources.sqs_config import SqsConfig

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/uploads"


def _config(**changes: JSON) -> SqsConfig:
    return SqsConfig.model_validate({"queue_url": QUEUE, **changes})


def test_a_queue_url_is_enough() -> None:
    """Everything else has a default, and the region comes from the URL."""
    config = _config()

    assert config.model_dump() == {
        "queue_url": QUEUE,
        "region": None,
        "endpoint_url": None,
        "wait_seconds": 10,
        "visibility_seconds": 60,
        "pollers": 4,
        "role_arn": None,
        "external_id": None,
        "profile": "auto",
    }
    assert config.signing_region == "eu-west-1"
    assert config.called_url is None


@pytest.mark.parametrize(
    ("queue_url", "region", "called"),
    [
        ("https://sqs.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1", None),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1", None),
        ("https://eu-central-1.queue.amazonaws.com/1/q", "eu-central-1", None),
        ("https://queue.amazonaws.com/1/q", "us-east-1", None),
        (
            "https://vpce-0a-1b.sqs.us-east-2.vpce.amazonaws.com/1/q",
            "us-east-2",
            "https://vpce-0a-1b.sqs.us-east-2.vpce.amazonaws.com",
        ),
        ("http://localhost:4566/000000000000/q", None, "http://localhost:4566"),
    ],
)
def test_the_queue_url_says_whom_to_call(queue_url: str, region: str | None, called: str | None) -> None:
    """AWS's own hosts give the region and are left to the library; any other host is called itself."""
    config = _config(queue_url=queue_url)

    assert (config.signing_region, config.called_url) == (region, called)


def test_what_is_given_goes_before_the_queue_url() -> None:
    """`region` and `endpoint_url` are taken as they are."""
    config = _config(region="us-east-1", endpoint_url="http://127.0.0.1:5000")

    assert (config.signing_region, config.called_url) == ("us-east-1", "http://127.0.0.1:5000")


@pytest.mark.parametrize(
    "changes",
    [
        {"queue_url": "uploads"},
        {"queue_url": "arn:aws:sqs:eu-west-1:123456789012:uploads"},
        {"queue_url": "ftp://sqs.eu-west-1.amazonaws.com/1/q"},
        {"queue_url": "https://sqs.eu-west-1.amazonaws.com"},
        {"queue_url": "https://user:secret@sqs.eu-west-1.amazonaws.com/1/q"},
        {"queue_url": "https://sqs.eu-west-1.amazonaws.com:port/1/q"},
        {"queue_url": "https://[::1/1/q"},
        {"queue_url": None},
        {"region": "Ireland (eu)"},
        {"endpoint_url": "127.0.0.1:5000"},
        {"wait_seconds": 21},
        {"wait_seconds": -1},
        {"visibility_seconds": 0},
        {"visibility_seconds": 43_201},
        {"visibility": 30},
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, JSON]) -> None:
    """Wrong URLs, spans out of SQS's bounds and unknown fields are errors that name the field."""
    with pytest.raises(ValidationError) as caught:
        _config(**changes)

    assert [error["loc"][0] for error in caught.value.errors()] == list(changes)


@pytest.mark.parametrize("field", ["endpoint_url", "queue_url"])
@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.170.2",
        "0xa9fea9fe",
        "2852039166",
        "169.254.43518",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "metadata.google.internal",
        "METADATA.google.internal.",
    ],
)
def test_a_metadata_address_is_refused(field: str, host: str) -> None:
    """Whatever its spelling: no request goes where clouds hand out credentials."""
    with pytest.raises(ValidationError, match="metadata address"):
        _config(**{field: f"http://{host}/latest/meta-data"})


def test_a_role_may_be_named_with_its_external_id() -> None:
    """Both reach the access the queue is called with."""
    config = _config(role_arn="arn:aws-us-gov:iam::123456789012:role/team/reader", external_id="tenant:7")

    assert (config.access.role_arn, config.access.external_id) == (
        "arn:aws-us-gov:iam::123456789012:role/team/reader",
        "tenant:7",
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"role_arn": "reader"}, "ARN of a role"),
        ({"role_arn": "arn:aws:iam::123456789012:user/reader"}, "ARN of a role"),
        ({"role_arn": "arn:aws:iam::1234:role/reader"}, "ARN of a role"),
        ({"role_arn": "arn:aws:iam::123456789012:role/reader\n"}, "ARN of a role"),
        ({"external_id": "tenant"}, "set role_arn too"),
        ({"role_arn": "arn:aws:iam::123456789012:role/r", "external_id": "a b"}, "letters, digits"),
        ({"pollers": 0}, "greater than or equal to 1"),
        ({"pollers": 33}, "less than or equal to 32"),
        ({"profile": "gcs"}, "'auto', 'aws'"),
    ],
)
def test_a_role_or_a_number_that_cannot_be_is_refused(changes: dict[str, JSON], said: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(ValidationError, match=said):
        _config(**changes)


@pytest.mark.parametrize(
    ("endpoint_url", "sts_url"),
    [
        (None, None),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://vpce-0a.sqs.us-east-2.vpce.amazonaws.com", None),
        ("https://sqs.cn-north-1.amazonaws.com.cn", None),
        ("https://sqs.amazonaws.com.evil.test", "https://sqs.amazonaws.com.evil.test"),
    ],
)
def test_roles_are_assumed_where_the_queue_is(endpoint_url: str | None, sts_url: str | None) -> None:
    """What speaks like AWS assumes its own roles; beside AWS's own endpoints STS is the region's."""
    assert _config(endpoint_url=endpoint_url).access.sts_url == sts_url
