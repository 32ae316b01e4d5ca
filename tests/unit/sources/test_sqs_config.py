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
