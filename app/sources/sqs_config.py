"""What a source of kind `sqs` is told: the queue, where and as whom to call it, how long to wait and to hide."""

import re
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.aws.access import Access, checked_external_id, checked_role_arn
from app.domain.configuration import Profile
from app.outbound.chosen import checked_url

# Queue URLs of AWS's public endpoints: today's, and the older ones that existing set-ups still name.
_AWS_HOSTS: Final = re.compile(
    r"(?:sqs\.(?P<region>[a-z0-9-]+)|(?P<older>[a-z0-9-]+)\.queue|queue)\.amazonaws\.com(?:\.cn)?"
)
_VPC_HOST: Final = re.compile(r"(?:.+\.)?sqs\.(?P<region>[a-z0-9-]+)\.vpce\.amazonaws\.com(?:\.cn)?")


def _queue_url(text: str) -> str:
    if not urlsplit(checked_url(text)).path.strip("/"):
        raise ValueError("must name a queue: https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE")
    return text


class SqsConfig(BaseModel):
    """What a source of kind `sqs` is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queue_url: Annotated[str, AfterValidator(_queue_url)] = Field(max_length=2048)
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,64}$", description="default: the queue URL's")
    endpoint_url: Annotated[str, AfterValidator(checked_url)] | None = Field(
        default=None, max_length=2048, description="default: AWS, or the queue URL's host where that is not AWS"
    )
    # A poll under way is not broken off by a stop (a broken one strands messages), and 25 s are given to stop in:
    # 10 s leave time to record what the last poll brought, and cost six calls a minute for an idle queue.
    wait_seconds: int = Field(default=10, ge=0, le=20, description="how long one poll waits")
    visibility_seconds: int = Field(
        default=60, ge=1, le=43_200, description="how long a message stays hidden when the process dies"
    )

    pollers: int = Field(default=4, ge=1, le=32, description="polls under way at once while the queue is busy, at most")
    role_arn: Annotated[str, AfterValidator(checked_role_arn)] | None = Field(
        default=None,
        max_length=2048,
        description="a role to assume for this queue; default: the process's own identity",
    )
    external_id: Annotated[str, AfterValidator(checked_external_id)] | None = Field(
        default=None, max_length=1224, description="what the role's trust policy asks for"
    )
    profile: Profile = Field(
        default="auto", description="whose ways the messages follow where they do not say so themselves"
    )

    @model_validator(mode="after")
    def _external_id_has_a_role(self) -> Self:
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("external_id is for a role: set role_arn too")
        return self

    @property
    def access(self) -> Access:
        """Give where and as whom to call."""
        return Access(
            region=self.signing_region,
            endpoint_url=self.called_url,
            role_arn=self.role_arn,
            external_id=self.external_id,
        )

    @property
    def signing_region(self) -> str | None:
        """Give the region to call; None leaves it to the AWS default chain."""
        host = urlsplit(self.queue_url).hostname or ""
        if self.region is not None:
            return self.region
        if found := _VPC_HOST.fullmatch(host):
            return found["region"]
        if found := _AWS_HOSTS.fullmatch(host):
            return found["region"] or found["older"] or "us-east-1"
        return None

    @property
    def called_url(self) -> str | None:
        """Give the endpoint to call; None leaves it to the AWS default chain."""
        if self.endpoint_url is not None:
            return self.endpoint_url
        parts = urlsplit(self.queue_url)
        return None if _AWS_HOSTS.fullmatch(parts.hostname or "") else f"{parts.scheme}://{parts.netloc}"
