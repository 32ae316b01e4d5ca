"""Where and as whom AWS is called. How it is called is in clients.py, how a role is assumed in roles.py."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from app.aws.partitions import is_aws_host

# A new partition's name follows the pattern too: aws, aws-cn, aws-us-gov, aws-iso-b.
_ROLE_ARN: Final = re.compile(
    r"arn:aws(?:-[a-z]+)*:iam::\d{12}:role/(?:[\x21-\x7e]{1,510}/)?[\w+=,.@-]{1,64}", re.ASCII
)
_EXTERNAL_ID: Final = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where and as whom AWS is called; None leaves it to the AWS default chain."""

    region: str | None = None
    endpoint_url: str | None = None
    role_arn: str | None = None
    external_id: str | None = None

    @property
    def sts_url(self) -> str | None:
        """Give where roles are assumed: at what is not AWS itself, else (None) at AWS's endpoint of the region."""
        return None if self.endpoint_url is None or is_aws(self.endpoint_url) else self.endpoint_url


def is_aws(url: str) -> bool:
    """Tell whether a URL is one of AWS's own, a VPC endpoint's among them."""
    return is_aws_host(urlsplit(url).hostname or "")


def checked_role_arn(text: str) -> str:
    """Judge the ARN of a role by its spelling and give it back. Raises ValueError with a predicate for people."""
    if _ROLE_ARN.fullmatch(text) is None:
        raise ValueError("must be the ARN of a role: arn:aws:iam::ACCOUNT:role/NAME")
    return text


def checked_external_id(text: str) -> str:
    """Judge an external id by its spelling and give it back. Raises ValueError with a predicate for people."""
    if _EXTERNAL_ID.fullmatch(text) is None:
        raise ValueError("must be 2 to 1224 letters, digits or characters of +=,.@:/-_")
    return text
