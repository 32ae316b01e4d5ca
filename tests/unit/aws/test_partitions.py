"""Which partition a region is in, and which hosts are AWS's."""

import pytest

from app.aws.partitions import is_aws_host, partition_of


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-central-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("eusc-de-east-1", "aws-eusc"),
        (None, "aws"),
    ],
)
def test_a_region_tells_its_partition(region: str | None, partition: str) -> None:
    """By the first part of its name; without a region it is the common one."""
    assert partition_of(region) == partition


@pytest.mark.parametrize(
    ("host", "is_aws"),
    [
        ("sqs.eu-central-1.amazonaws.com", True),
        ("sqs.cn-north-1.amazonaws.com.cn.", True),
        ("sqs.eusc-de-east-1.amazonaws.eu", True),
        ("SQS.us-east-1.api.aws", True),
        ("amazonaws.com.example.com", False),
        ("notamazonaws.com", False),
        ("localhost", False),
    ],
)
def test_hosts_of_aws_are_known_by_their_domain(host: str, is_aws: bool) -> None:  # noqa: FBT001 -- a row of the table
    """The whole last labels count, in whatever case, with a dot at the end or without."""
    assert is_aws_host(host) == is_aws
