"""AWS's partitions, as far as their names of hosts are known: which one a region is in, and the domains of each.

From botocore's endpoints.json and aws-sdk-java-v2's SnsHostProvider. The isolated ones are left out: nobody could try
them, and nothing outside can reach them.
"""

from typing import Final

DOMAINS: Final = {
    "aws": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
    "aws-us-gov": "amazonaws.com",
    "aws-eusc": "amazonaws.eu",
}
# Of the newer names of hosts, which every partition may have.
SHARED_DOMAIN: Final = "api.aws"

_REGION_PREFIXES: Final = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc"}


def partition_of(region: str | None) -> str:
    """Give the partition that a region is in; without a region the first one."""
    return next((name for prefix, name in _REGION_PREFIXES.items() if (region or "").startswith(prefix)), "aws")


def is_aws_host(host: str) -> bool:
    """Tell whether a host is one of AWS's own, a VPC endpoint's among them."""
    return host.rstrip(".").lower().endswith(tuple(f".{domain}" for domain in (*DOMAINS.values(), SHARED_DOMAIN)))
