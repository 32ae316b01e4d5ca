"""What a source of kind `sns` is told: the topics it takes messages of, and where and as whom SNS is called."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field

from app.aws.partitions import DOMAINS
from app.domain.configuration import Profile
from app.outbound.chosen import checked_url
from app.sources.as_role import AsRole

# A region is written into the name of a host, so it has a region's form: `s3-us-west-2` could be anybody's bucket.
_TOPIC_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sns:(?P<region>[a-z]{2,8}(?:-[a-z]{2,16}){1,3}-[0-9]{1,2}):(?P<account>[0-9]{12})"
    r":[A-Za-z0-9_-]{1,256}(?:\.fifo)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic that an operator listed, and what its ARN says."""

    arn: str
    partition: str
    region: str
    account: str

    @property
    def suffix(self) -> str:
        """Give the domain of the topic's partition."""
        return DOMAINS[self.partition]


def parse_topic(arn: str) -> Topic:
    """Read the ARN of a topic. Raises ValueError."""
    found = _TOPIC_ARN.fullmatch(arn)
    if found is None:
        raise ValueError("is not the ARN of a topic: arn:aws:sns:REGION:ACCOUNT:TOPIC")
    if found["partition"] not in DOMAINS:
        raise ValueError(f"is in the partition {found['partition']}; known are {', '.join(DOMAINS)}")
    return Topic(arn=arn, partition=found["partition"], region=found["region"], account=found["account"])


def _topic_arn(text: str) -> str:
    return parse_topic(text).arn


class SnsConfig(AsRole):
    """What a source of kind `sns` is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    topic_arns: tuple[Annotated[str, AfterValidator(_topic_arn)], ...] = Field(
        min_length=1, max_length=50, description="messages of other topics are refused"
    )
    endpoint_url: Annotated[str, AfterValidator(checked_url)] | None = Field(
        default=None,
        max_length=2048,
        description="default: AWS; an emulator named here may sign with certificates of its own",
    )
    profile: Profile = Field(default="auto", description="whose events these are, where their content does not say")

    @property
    def topics(self) -> dict[str, Topic]:
        """Give the topics by ARN."""
        return {arn: parse_topic(arn) for arn in self.topic_arns}
